/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The record of a socket: the columns of sockets.SOCKET.
 */
#pragma once

#include "address.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

enum { TIMER_OFF, TIMER_RETRANSMIT, TIMER_KEEPALIVE, TIMER_ZERO_WINDOW = 4 };
enum { SWITCH_OFF = 1, SWITCH_ON = 2 };
enum { OWN_IDLE = 1, OWN_INTERVAL = 2, OWN_PROBES = 4 };

/* records.RECORD is its twin. Times are in jiffies, or in 1,024 us: a division each would cost more here. */
struct record {
	__u64 cookie;
	__u64 cgroup;
	struct address local, remote;
	__u32 inode;
	__u32 uid;
	__u32 interface;
	__u32 segments_in;
	__u32 segments_out;
	__u32 keepidle;
	__u32 keepintvl;
	__u32 since_sent;
	__u32 since_received;
	__u32 since_acked;
	__u32 expires;
	__u32 netns;
	__u32 slack; /* how much later than it says the keepalive timer may fire */
	__u32 since_packet; /* 1,024 us, since the newest packet or later */
	__u32 user_timeout; /* ms */
	__u16 local_port;
	__u16 remote_port;
	__u8 state;
	__u8 timer;
	__u8 keepalive;
	__u8 keepcnt;
	__u8 own;
	__u8 retransmits; /* of data that is not acknowledged */
	__u8 probes; /* that nobody has answered yet */
	__u8 unused[1];
};

static __always_inline __u32 inode_of(const struct sock *sk)
{
	const void *socket = sk->sk_socket;
	unsigned long inode = 0;

	if (bpf_core_field_exists(((struct sock___v6_18 *)0)->sk_ino))
		return ((const struct sock___v6_18 *)sk)->sk_ino;
	/* struct socket is the first member of struct socket_alloc */
	if (socket)
		bpf_probe_read_kernel(&inode, sizeof(inode),
				      socket + bpf_core_field_offset(struct socket_alloc, vfs_inode.i_ino));
	return inode;
}

static __always_inline unsigned long retransmission(const struct tcp_sock *tp)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;

	if (bpf_core_field_exists(((struct sock___v6_19 *)0)->tcp_retransmit_timer))
		return ((const struct sock___v6_19 *)tp)->tcp_retransmit_timer.expires;
	if (bpf_core_field_exists(((struct inet_connection_sock___v6_17 *)0)->icsk_timeout))
		return ((const struct inet_connection_sock___v6_17 *)tp)->icsk_timeout;
	return icsk->icsk_retransmit_timer.expires;
}

/* A level of the timer wheel has 64 buckets, each of the next level eight times as wide; expiries are rounded up. */
static __always_inline __u32 slack_of(const struct timer_list *timer)
{
	__u32 level = timer->flags >> 22 >> 6;

	return level < 9 ? 1U << 3 * level : 0;
}

/* inet_sk_diag_fill, net/ipv4/inet_diag.c */
static __always_inline void fill_timer(struct record *record, const struct tcp_sock *tp, unsigned long now)
{
	unsigned long expires;
	const void *pending;

	switch (tp->inet_conn.icsk_pending) {
	case ICSK_TIME_RETRANS:
	case ICSK_TIME_LOSS_PROBE:
	case ICSK_TIME_REO_TIMEOUT:
		record->timer = TIMER_RETRANSMIT;
		expires = retransmission(tp);
		break;
	case ICSK_TIME_PROBE0:
		record->timer = TIMER_ZERO_WINDOW;
		expires = retransmission(tp);
		break;
	default:
		if (bpf_core_field_exists(((struct inet_connection_sock___v6_19 *)0)->icsk_keepalive_timer)) {
			const struct inet_connection_sock___v6_19 *icsk = (const void *)tp;

			pending = icsk->icsk_keepalive_timer.entry.pprev;
			expires = icsk->icsk_keepalive_timer.expires;
			record->slack = slack_of(&icsk->icsk_keepalive_timer);
		} else {
			const struct sock *sk = (const void *)tp;

			pending = sk->sk_timer.entry.pprev;
			expires = sk->sk_timer.expires;
			record->slack = slack_of(&sk->sk_timer);
		}
		if (!pending)
			return;
		record->timer = TIMER_KEEPALIVE;
	}
	if ((long)(expires - now) > 0)
		record->expires = expires - now;
}

/* keepalive_time_when and its like, include/net/tcp.h: 0 stands for the namespace's value */
static __always_inline void fill_keepalive(struct record *record, const struct tcp_sock *tp, const struct sock *sk)
{
	const struct netns_ipv4 *net = &sk->__sk_common.skc_net.net->ipv4;
	__u32 idle = tp->keepalive_time, interval = tp->keepalive_intvl;
	__u8 probes = tp->keepalive_probes;

	record->keepalive = sk->__sk_common.skc_flags & 1UL << SOCK_KEEPOPEN ? SWITCH_ON : SWITCH_OFF;
	record->own = (idle ? OWN_IDLE : 0) | (interval ? OWN_INTERVAL : 0) | (probes ? OWN_PROBES : 0);
	record->keepidle = idle ?: net->sysctl_tcp_keepalive_time;
	record->keepintvl = interval ?: net->sysctl_tcp_keepalive_intvl;
	record->keepcnt = probes ?: net->sysctl_tcp_keepalive_probes;
}

enum { MEANWHILE = 1000 }; /* jiffies */

/* Jiffies since then. The other processors send and receive meanwhile: what is newer than `now` is not 2^32 old. */
static __always_inline __u32 passed(__u32 now, __u32 then)
{
	__u32 since = now - then;

	return since < (__u32)-MEANWHILE ? since : 0;
}

struct now {
	__u64 jiffies;
	__u64 us; /* of the clock that tcp_mstamp is of */
};

/* Reading the second one keeps the processor from fetching ahead, so whoever reads many sockets reads it once. */
static __always_inline struct now read_clocks(void)
{
	struct now now = { .jiffies = bpf_jiffies64(), .us = bpf_ktime_get_ns() / 1000 };

	return now;
}

/* all but what the caller has read already: cookie, state, owner and peer */
static __always_inline void fill(struct record *record, const struct tcp_sock *tp, struct now now)
{
	const struct sock *sk = (const struct sock *)tp;
	const struct sock_common *common = &sk->__sk_common;
	__s64 since_packet = now.us - tp->tcp_mstamp;

	record->cgroup = sk->sk_cgrp_data.cgroup->kn->id;
	put_address(&record->local, common, common->skc_rcv_saddr, &common->skc_v6_rcv_saddr);
	record->inode = inode_of(sk);
	record->interface = common->skc_bound_dev_if;
	record->segments_in = tp->segs_in;
	record->segments_out = tp->segs_out;
	record->since_sent = passed(now.jiffies, tp->lsndtime);
	record->since_received = passed(now.jiffies, tp->inet_conn.icsk_ack.lrcvtime);
	record->since_acked = passed(now.jiffies, tp->rcv_tstamp);
	record->netns = common->skc_net.net->ns.inum;
	record->since_packet = since_packet > 0 ? since_packet >> 10 : 0;
	record->user_timeout = tp->inet_conn.icsk_user_timeout;
	record->retransmits = tp->inet_conn.icsk_retransmits;
	record->probes = tp->inet_conn.icsk_probes_out;
	record->local_port = common->skc_num;
	record->remote_port = bpf_ntohs(common->skc_dport);
	fill_timer(record, tp, now.jiffies);
	fill_keepalive(record, tp, sk);
}
