// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Keepalive for new connections, before their programs can send a byte: the first rule that matches
 * counts. What a program has set before, or its listener, stays where it is stricter; what it sets
 * later stays in any case. As policy.settle has it. */
#include "address.h"
#include "settings.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { MOST_RULES = 64, MAX_PROBES = 127 };

enum { END, LEAVE, ARM }; /* leave: to the next scan */

/* handshake.RULE is its twin */
struct rule {
	struct address network, mask; /* of the peer */
	__u32 port; /* of either end, 0 for any */
	__u32 verb;
	struct settings wish;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MOST_RULES);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

static __always_inline __s32 stricter(__s32 stands, __s32 wanted)
{
	return stands > 0 && stands < wanted ? stands : wanted;
}

static __always_inline void enable(struct bpf_sock_ops *ctx, const struct tcp_sock *tp, const struct rule *rule)
{
	struct settings system = system_of((const struct sock_common *)tp);
	struct settings before = settings_of(tp, &system);
	bool own = before.probes != system.probes && before.probes >= 1 && before.probes <= MAX_PROBES;
	struct settings after = {
		.idle = stricter(before.idle, rule->wish.idle),
		.interval = stricter(before.interval, rule->wish.interval),
		.probes = own ? before.probes : rule->wish.probes,
		.on = 1,
	};

	/* switched on last, so that the timer is set once: nothing has been idle yet */
	if (after.interval != before.interval)
		bpf_setsockopt(ctx, IPPROTO_TCP, TCP_KEEPINTVL, &after.interval, sizeof(after.interval));
	if (after.probes != before.probes)
		bpf_setsockopt(ctx, IPPROTO_TCP, TCP_KEEPCNT, &after.probes, sizeof(after.probes));
	if (after.idle != before.idle)
		bpf_setsockopt(ctx, IPPROTO_TCP, TCP_KEEPIDLE, &after.idle, sizeof(after.idle));
	if (!before.on)
		bpf_setsockopt(ctx, constants.sol_socket, constants.so_keepalive, &after.on, sizeof(after.on));
}

SEC("sockops")
int arm_connection(struct bpf_sock_ops *ctx)
{
	const struct sock_common *common;
	const struct tcp_sock *tp;
	struct address remote;
	struct bpf_sock *sk;
	__u16 remote_port;

	if (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 1;
	common = (const struct sock_common *)tp;
	remote = address_of(common, common->skc_daddr, &common->skc_v6_daddr);
	remote_port = bpf_ntohs(common->skc_dport);
	for (__u32 number = 0; number < MOST_RULES; number++) {
		__u32 key = number; /* the helper may write to what it is given, so the verifier could not see the end */
		const struct rule *rule = bpf_map_lookup_elem(&rules, &key);

		if (!rule || rule->verb == END)
			break;
		if ((remote.high & rule->mask.high) != rule->network.high ||
		    (remote.low & rule->mask.low) != rule->network.low)
			continue;
		if (rule->port && rule->port != remote_port && rule->port != common->skc_num)
			continue;
		if (rule->verb == ARM)
			enable(ctx, tp, rule);
		break;
	}
	return 1;
}
