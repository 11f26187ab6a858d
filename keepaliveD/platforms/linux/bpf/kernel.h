/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What is used of the kernel's structures, and nothing else: libbpf finds the offsets in the running
 * kernel by the names (CO-RE). A name after ___ is a variant that only some kernels have.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

/* the hash of all sockets that have a peer, include/net/inet_hashtables.h */
struct hlist_nulls_node {
	struct hlist_nulls_node *next;
};

struct hlist_nulls_head {
	struct hlist_nulls_node *first;
};

struct inet_ehash_bucket {
	struct hlist_nulls_head chain;
};

struct inet_hashinfo {
	struct inet_ehash_bucket *ehash;
	unsigned int ehash_mask;
};

struct inet_timewait_death_row {
	struct inet_hashinfo *hashinfo;
};

struct netns_ipv4 {
	struct inet_timewait_death_row tcp_death_row;
	int sysctl_tcp_keepalive_time;
	int sysctl_tcp_keepalive_intvl;
	__u8 sysctl_tcp_keepalive_probes;
};

struct ns_common {
	unsigned int inum;
};

struct user_namespace {
	int level;
};

struct net {
	struct ns_common ns;
	struct user_namespace *user_ns;
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct hlist_node {
	struct hlist_node **pprev;
};

struct timer_list {
	struct hlist_node entry;
	unsigned long expires;
	__u32 flags; /* from bit 22 on: which bucket of the timer wheel, kernel/time/timer.c */
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	int skc_bound_dev_if;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
	struct hlist_nulls_node skc_nulls_node;
	struct {
		__s64 counter;
	} skc_cookie;
};

struct nsproxy {
	struct net *net_ns;
};

struct mm_struct;

struct signal_struct {
	struct mm_struct *oom_mm; /* once it is chosen to die for memory */
};

struct upid {
	int nr;
};

struct pid {
	unsigned int level;
	struct upid numbers[1]; /* one for each namespace, from the outermost to that of its own level */
};

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 low; /* the first 32 capabilities; what follows differs between kernels */
} kernel_cap_t;

struct cred {
	kernel_cap_t cap_permitted;
	struct user_namespace *user_ns;
};

struct task_struct {
	const struct cred *real_cred;
	struct nsproxy *nsproxy;
	int pid;
	int tgid;
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct task_struct *group_leader;
	unsigned int flags;
	int exit_code;
	char comm[16];
};

struct kernfs_node {
	__u64 id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct socket;
struct bpf_local_storage;

struct bpf_prog;
struct bpf_xdp_link;

struct bpf_xdp_entity {
	struct bpf_prog *prog;
	struct bpf_xdp_link *link;
};

struct net_device {
	int ifindex;
	unsigned long state;
	struct bpf_xdp_entity xdp_state[3]; /* by mode: of any driver, of this one, of the device */
	possible_net_t nd_net;
};

struct dst_entry {
	struct net_device *dev;
};

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	int sk_err_soft;
	struct dst_entry *sk_dst_cache; /* the route to its peer */
	__u16 sk_protocol;
	__u8 sk_shutdown;
	struct bpf_local_storage *sk_bpf_storage;
	kuid_t sk_uid;
	struct socket *sk_socket;
	struct sock_cgroup_data sk_cgrp_data;
	struct timer_list sk_timer; /* of keepalive; 6.19 moved it */
};

struct sock___v5_17 {
	int sk_rx_dst_ifindex; /* the interface over which its packets come */
};

struct sock___v6_18 {
	unsigned long sk_ino; /* before: in sk_socket */
};

struct sock___v6_19 {
	struct timer_list tcp_retransmit_timer;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport; /* skc_num is gone when an unbound socket has ended */
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct timer_list icsk_retransmit_timer;
	__u32 icsk_user_timeout; /* ms */
	__u8 icsk_retransmits;
	__u8 icsk_probes_out;
	__u8 icsk_pending;
	struct {
		__u32 lrcv_flowlabel : 20;
		__u32 lrcvtime;
	} icsk_ack;
};

struct inet_connection_sock___v6_17 {
	unsigned long icsk_timeout; /* after: expires of icsk_retransmit_timer */
};

struct inet_connection_sock___v6_19 {
	struct timer_list icsk_keepalive_timer;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 segs_in;
	__u32 segs_out;
	__u32 lsndtime;
	__u32 rcv_tstamp;
	__u64 tcp_mstamp; /* us: the newest packet of either direction, also of those that no other member shows */
	unsigned int keepalive_time;
	unsigned int keepalive_intvl;
	__u8 keepalive_probes;
	__u8 repair : 1;
	__u32 rcv_nxt;
	__u32 rcv_wnd;
	__u32 copied_seq;
	__u32 write_seq;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 snd_wnd;
	__u32 srtt_us; /* eighths of 1 us */
	__u32 rttvar_us;
	__u32 retrans_stamp; /* of the first retransmission, in ms, or in us if tcp_usec_ts */
	__u64 bytes_received;
	__u64 bytes_acked;
	struct {
		__u16 tstamp_ok : 1;
	} rx_opt;
};

struct tcp_sock___v6_7 {
	__u8 tcp_usec_ts : 1;
};

struct sk_buff {
	struct net_device *dev; /* NULL while TCP has it */
	struct sock *sk; /* of packets of either direction */
	unsigned char *head;
	__u16 network_header;
	int skb_iif; /* 0 if it was made here */
};

struct inode {
	unsigned long i_ino;
};

struct file {
	struct inode *f_inode;
};

struct socket_alloc {
	struct inode vfs_inode;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
	__u32 uid;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_map;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

enum sock_flags { SOCK_DONE = 1, SOCK_KEEPOPEN = 3 };

/* their numbers differ between kernels */
enum skb_drop_reason {
	SKB_DROP_REASON_NOT_SPECIFIED = 2,
	SKB_DROP_REASON_NO_SOCKET = 3,
	SKB_DROP_REASON_TCP_CSUM = 5,
	SKB_DROP_REASON_SOCKET_FILTER = 6,
	SKB_DROP_REASON_NETFILTER_DROP = 8,
	SKB_DROP_REASON_BPF_CGROUP_EGRESS = 11,
	SKB_DROP_REASON_XFRM_POLICY = 14,
	SKB_DROP_REASON_TCP_MD5NOTFOUND = 16,
	SKB_DROP_REASON_TCP_MD5UNEXPECTED = 17,
	SKB_DROP_REASON_TCP_MD5FAILURE = 18,
	SKB_DROP_REASON_IP_RPFILTER = 41,
	SKB_DROP_REASON_IP_OUTNOROUTES = 43,
	SKB_DROP_REASON_TC_EGRESS = 51,
	SKB_DROP_REASON_TC_INGRESS = 54,
	SKB_DROP_REASON_TCP_MINTTL = 70,
};

#pragma clang attribute pop

/* states in which packets may still flow */
#define STATES (1 << TCP_ESTABLISHED | 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | 1 << TCP_CLOSE_WAIT)

/* constants that have been the same for ever */
enum {
	AF_INET = 2,
	AF_INET6 = 10,
	IPPROTO_TCP = 6,
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_LISTEN = 10,
	TCP_CLOSING = 11,
	LINK_STATE_NOCARRIER = 2,
	PF_EXITING = 4,
	PF_KTHREAD = 0x200000,
	ICSK_TIME_RETRANS = 1,
	ICSK_TIME_PROBE0 = 3,
	ICSK_TIME_LOSS_PROBE = 5,
	ICSK_TIME_REO_TIMEOUT = 6,
};
