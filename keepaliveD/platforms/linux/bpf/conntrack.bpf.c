// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What the connection tracking of one network namespace remembers of many connections.
 *
 * bpf_skb_ct_lookup is for programs that see packets (TC, XDP), so this is one, which runs only when user space
 * runs it (BPF_PROG_TEST_RUN): then the packet is of the caller's network namespace.
 */
#include "kernel.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum {
	FLOWS = 1024, /* at a time: a fraction of a millisecond, in which this processor does nothing else */
	THIS_NAMESPACE = -1, /* BPF_F_CURRENT_NETNS */
	OFFLOADED = 1 << 14, /* IPS_OFFLOAD: its packets pass conntrack by */
	ESTABLISHED = 3, /* TCP_CONNTRACK_ESTABLISHED */
};

struct flow { /* model.firewall.FLOW is its twin */
	__u64 local_high;
	__u64 local_low;
	__u64 remote_high;
	__u64 remote_low;
	__u32 netns;
	__u16 local_port;
	__u16 remote_port;
};

struct remembered { /* conntrack.REMEMBERED is its twin */
	__u32 found;
	__u32 established;
	__s64 forgets_in; /* jiffies; the kernel rounds values of an array up to 8 bytes, so this is a multiple */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, struct remembered);
} answers SEC(".maps");

struct {
	__u64 count;
} asked; /* conntrack.ASKED is its twin */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct nf_conn {
	__u32 timeout; /* in jiffies */
	unsigned long status;
	union {
		struct {
			__u8 state;
		} tcp;
	} proto;
};

#pragma clang attribute pop

struct bpf_ct_opts___of_6_3 { /* include/net/netfilter/nf_conntrack_bpf.h; it has grown since, and takes this size */
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 size,
					 struct bpf_ct_opts___of_6_3 *options, __u32 length) __ksym;
extern void bpf_ct_release(struct nf_conn *entry) __ksym;

static int ask(__u32 number, struct __sk_buff **skb)
{
	struct bpf_ct_opts___of_6_3 options = { .netns_id = THIS_NAMESPACE, .l4proto = IPPROTO_TCP };
	struct bpf_sock_tuple tuple = {};
	struct remembered *answer = bpf_map_lookup_elem(&answers, &number);
	struct flow *flow = bpf_map_lookup_elem(&flows, &number);
	struct nf_conn *entry;
	__u32 size;

	if (!answer || !flow || number >= asked.count)
		return 1;
	__builtin_memset(answer, 0, sizeof(*answer));
	if (!flow->local_high && flow->local_low >> 32 == 0xffff) {
		tuple.ipv4.saddr = bpf_htonl(flow->local_low);
		tuple.ipv4.daddr = bpf_htonl(flow->remote_low);
		tuple.ipv4.sport = bpf_htons(flow->local_port);
		tuple.ipv4.dport = bpf_htons(flow->remote_port);
		size = sizeof(tuple.ipv4);
	} else {
		tuple.ipv6.saddr[0] = bpf_htonl(flow->local_high >> 32);
		tuple.ipv6.saddr[1] = bpf_htonl(flow->local_high);
		tuple.ipv6.saddr[2] = bpf_htonl(flow->local_low >> 32);
		tuple.ipv6.saddr[3] = bpf_htonl(flow->local_low);
		tuple.ipv6.daddr[0] = bpf_htonl(flow->remote_high >> 32);
		tuple.ipv6.daddr[1] = bpf_htonl(flow->remote_high);
		tuple.ipv6.daddr[2] = bpf_htonl(flow->remote_low >> 32);
		tuple.ipv6.daddr[3] = bpf_htonl(flow->remote_low);
		tuple.ipv6.sport = bpf_htons(flow->local_port);
		tuple.ipv6.dport = bpf_htons(flow->remote_port);
		size = sizeof(tuple.ipv6);
	}
	if (size == sizeof(tuple.ipv4))
		entry = bpf_skb_ct_lookup(*skb, &tuple, sizeof(tuple.ipv4), &options, sizeof(options));
	else
		entry = bpf_skb_ct_lookup(*skb, &tuple, sizeof(tuple.ipv6), &options, sizeof(options));
	if (!entry)
		return 0;
	answer->found = !(entry->status & OFFLOADED);
	answer->established = entry->proto.tcp.state == ESTABLISHED;
	answer->forgets_in = (__s32)(entry->timeout - (__u32)bpf_jiffies64());
	bpf_ct_release(entry);
	return 0;
}

SEC("tc")
int consult(struct __sk_buff *skb)
{
	bpf_loop(FLOWS, ask, &skb, 0);
	return 0;
}
