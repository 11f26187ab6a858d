/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * ICMP errors that quote a packet of an established connection of this host: RFC 792, 4443. Anybody can send any
 * number of others, which would take the room of these.
 */
#pragma once

#include "packet.h"
#include "record.h"

enum { IPPROTO_ICMP = 1, IPPROTO_ICMPV6 = 58, ERROR = 8 /* octets before what is quoted */ };

struct ports {
	__be16 source;
	__be16 target;
};

static __always_inline bool is_error(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		const struct ipv4 *ip = data;

		return (void *)(ip + 1) <= end && ip->protocol == IPPROTO_ICMP;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6 *ip = data;

		return (void *)(ip + 1) <= end && ip->protocol == IPPROTO_ICMPV6;
	}
	return false;
}

/* What is quoted left this host, so that its source is our end. Return the size of the tuple, 0 if there is none. */
static __always_inline __u32 read_quoted(struct __sk_buff *skb, struct bpf_sock_tuple *tuple)
{
	struct ports ports;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ipv4 ip;
		__u32 at;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return 0;
		at = (ip.version_length & 15) * 4 + ERROR;
		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) ||
		    bpf_skb_load_bytes(skb, at + (ip.version_length & 15) * 4, &ports, sizeof(ports)))
			return 0;
		tuple->ipv4.saddr = ip.target;
		tuple->ipv4.daddr = ip.source;
		tuple->ipv4.sport = ports.target;
		tuple->ipv4.dport = ports.source;
		return sizeof(tuple->ipv4);
	} else {
		struct ipv6 ip;
		__u32 at = sizeof(ip) + ERROR;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) ||
		    bpf_skb_load_bytes(skb, at + sizeof(ip), &ports, sizeof(ports)))
			return 0;
		__builtin_memcpy(tuple->ipv6.saddr, ip.target, sizeof(ip.target));
		__builtin_memcpy(tuple->ipv6.daddr, ip.source, sizeof(ip.source));
		tuple->ipv6.sport = ports.target;
		tuple->ipv6.dport = ports.source;
		return sizeof(tuple->ipv6);
	}
}

/* Anybody may open as many connections as he likes to where nothing answers, and have errors come about these. */
static __always_inline bool quotes_ours(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = read_quoted(skb, &tuple);
	struct bpf_sock *sk;
	bool ours;

	if (!size)
		return false;
	sk = bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	ours = sk->state != TCP_LISTEN && sk->state != TCP_SYN_SENT;
	bpf_sk_release(sk);
	return ours;
}
