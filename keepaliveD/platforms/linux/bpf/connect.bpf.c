// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Keepalive for new connections, before their programs can send a byte: the first rule that matches
 * counts. What a program has set before, or its listener, stays where it is stricter; what it sets
 * later stays in any case. As policy.settle has it. */
#include "address.h"
#include "settings.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { MOST_RULES = 64 };

enum { END, LEAVE, ARM }; /* leave: to the next scan */

/* connect.RULE is its twin */
struct rule {
	struct address network, mask; /* of the peer */
	__u32 port; /* of either end, 0 for any */
	__u16 verb;
	bool asks_for_owner; /* concerns only cgroups in `owners` that have its bit */
	struct settings wish;
	__s32 idle, interval; /* of the wish, in jiffies, as sockets and sysctls have them */
};

/* The verifier sees what stands here, and drops what no rule needs. */
const volatile struct rule rules[MOST_RULES] SEC(".rodata.rules");

/* Of cgroups that are known, the rules that mean their unit and container: a bit each, by their numbers. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u64);
} owners SEC(".maps");

/* Volatile, or the compiler reads two words of an address as one, which the verifier refuses. */
static __always_inline struct address remote_of(const volatile struct bpf_sock_ops *ctx)
{
	if (ctx->family == AF_INET)
		return (struct address){ 0, V4_MAPPED | bpf_ntohl(ctx->remote_ip4) };
	return (struct address){
		(__u64)bpf_ntohl(ctx->remote_ip6[0]) << 32 | bpf_ntohl(ctx->remote_ip6[1]),
		(__u64)bpf_ntohl(ctx->remote_ip6[2]) << 32 | bpf_ntohl(ctx->remote_ip6[3]),
	};
}

/* zero and less, which sysctls take for "at once" and "never", are no times */
static __always_inline bool laxer(__s32 stands, __s32 wanted)
{
	return stands <= 0 || stands > wanted;
}

static __always_inline void set(struct bpf_sock_ops *ctx, int level, int name, const __s32 *value)
{
	bpf_setsockopt(ctx, level, name, (void *)value, sizeof(*value));
}

static __always_inline void enable(struct bpf_sock_ops *ctx, const struct tcp_sock *tp, const struct rule *rule)
{
	const struct sock_common *common = (const struct sock_common *)tp;
	const struct netns_ipv4 *system = &common->skc_net.net->ipv4;
	__s32 idle = tp->keepalive_time ?: system->sysctl_tcp_keepalive_time;
	__s32 interval = tp->keepalive_intvl ?: system->sysctl_tcp_keepalive_intvl;
	__u8 probes = tp->keepalive_probes ?: system->sysctl_tcp_keepalive_probes;
	bool own = probes != system->sysctl_tcp_keepalive_probes;
	bool on = common->skc_flags >> SOCK_KEEPOPEN & 1;

	/* switched on last, so that the timer is set once: nothing has been idle yet */
	if (laxer(interval, rule->interval))
		set(ctx, IPPROTO_TCP, TCP_KEEPINTVL, &rule->wish.interval);
	if (!own && probes != rule->wish.probes)
		set(ctx, IPPROTO_TCP, TCP_KEEPCNT, &rule->wish.probes);
	if (laxer(idle, rule->idle))
		set(ctx, IPPROTO_TCP, TCP_KEEPIDLE, &rule->wish.idle);
	if (!on)
		set(ctx, constants.sol_socket, constants.so_keepalive, &rule->wish.on);
}

enum concern { OTHERS, OURS, NOBODY_KNOWS };

/* The cgroup is that of who made the socket, or its listener. */
static __always_inline enum concern concerns(__u32 number, struct bpf_sock *sk)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	const __u64 *mask;
	__u64 cgroup;

	if (!tp)
		return NOBODY_KNOWS;
	cgroup = tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup->kn->id;
	mask = bpf_map_lookup_elem(&owners, &cgroup);
	if (!mask)
		return NOBODY_KNOWS;
	return *mask >> number & 1 ? OURS : OTHERS;
}

SEC("sockops")
int arm_connection(struct bpf_sock_ops *ctx)
{
	struct address remote;
	struct bpf_sock *sk;

	if (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	remote = remote_of(ctx);
	for (__u32 number = 0; number < MOST_RULES; number++) {
		const struct rule *rule = (const struct rule *)&rules[number];
		const struct tcp_sock *tp;

		barrier_var(rule); /* or the compiler takes the zeros that it sees for what stands there */
		if (rule->verb == END)
			break;
		if ((remote.high & rule->mask.high) != rule->network.high ||
		    (remote.low & rule->mask.low) != rule->network.low)
			continue;
		if (rule->port && rule->port != bpf_ntohl(ctx->remote_port) && rule->port != ctx->local_port)
			continue;
		if (rule->asks_for_owner) {
			enum concern concern = concerns(number, sk);

			if (concern == OTHERS)
				continue;
			if (concern == NOBODY_KNOWS)
				break;
		}
		if (rule->verb == LEAVE)
			break;
		tp = bpf_skc_to_tcp_sock(sk);
		if (tp)
			enable(ctx, tp, rule);
		break;
	}
	return 1;
}
