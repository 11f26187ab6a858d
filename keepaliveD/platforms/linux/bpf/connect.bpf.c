// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Arms new connections at connect and at accept, before their programs can send a byte.
 *
 * The first rule that matches counts, and the first path. What is set is what decide_arming (policy) would set in
 * an open socket; what is not certain is left to the next scan. All that is set becomes the socket's own,
 * also where it equals the sysctl: it must not change when sysctls do.
 */
#include "address.h"
#include "connect.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { MOST = 256, NONE = -1, MAX_KEEPIDLE = 32767, MAX_KEEPCNT = 127 };

enum { END, LEAVE, ARM }; /* leave: to the next scan */

struct target {
	struct address network, mask; /* of the peer */
	__u32 port; /* of either end, 0 for any */
};

/* connect.ROUTE is its twin: what leads to a path */
struct route {
	struct target target;
	__s32 below; /* seconds: the longest idle time that is safe on this path */
	__s32 third; /* seconds: the longest interval after which two more probes fit */
	__u8 verb;
	__u8 path; /* its bit in rule.paths */
	__u8 unused[6];
};

/* connect.RULE is its twin */
struct rule {
	struct target target;
	__u16 number;
	__u8 verb;
	__u8 owner; /* concerns only cgroups in `owners` that have this bit; 0 for all */
	__u64 paths; /* concerns only these, a bit each */
	struct settings wish; /* an idle time of 0 is the longest that fits the path */
};

/* The verifier sees what stands here, and drops what no rule needs. */
const volatile struct route routes[MOST] SEC(".rodata.routes");
const volatile struct rule rules[MOST] SEC(".rodata.rules");

/* One of them. The compiler must not take the zeros that it sees for what stands there, nor leave out the
 * bounds that it knows, for the verifier knows them not. */
#define AT(array, kind, number)                                                \
	({                                                                     \
		__u64 at = (number);                                           \
		const struct kind *one;                                        \
		barrier_var(at);                                               \
		one = (const struct kind *)&(array)[at & (MOST - 1)];          \
		barrier_var(one);                                              \
		one;                                                           \
	})

/* The meaning of cgroups that are known: the rules that mean their unit and container, a bit each, KNOWN, and
 * ALL_BELOW where what is below belongs to the same unit and container. */
#define KNOWN 1ULL
#define ALL_BELOW (1ULL << 63)
#define LEVELS 32 /* of cgroups that are gone up */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u64);
} owners SEC(".maps");

/* What stood in a socket before, and what was set: as long as the socket lives. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct armed);
} armed SEC(".maps");

/* connect.COUNTED is its twin */
struct counted {
	__u64 cgroup;
	__u64 rule;
};

/* How many were armed so far. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct counted);
	__type(value, __u64);
} counts SEC(".maps");

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

static __always_inline struct address local_of(const volatile struct bpf_sock_ops *ctx)
{
	if (ctx->family == AF_INET)
		return (struct address){ 0, V4_MAPPED | bpf_ntohl(ctx->local_ip4) };
	return (struct address){
		(__u64)bpf_ntohl(ctx->local_ip6[0]) << 32 | bpf_ntohl(ctx->local_ip6[1]),
		(__u64)bpf_ntohl(ctx->local_ip6[2]) << 32 | bpf_ntohl(ctx->local_ip6[3]),
	};
}

/* What a connection from an address to itself counts as in watch.ignore (policy.paths.ignored). */
static __always_inline struct address loopback_of(const volatile struct bpf_sock_ops *ctx)
{
	return (struct address){ 0, ctx->family == AF_INET ? V4_MAPPED | 0x7f000001 : 1 };
}

static __always_inline bool concerns(const struct target *target, const struct address *remote,
				     const volatile struct bpf_sock_ops *ctx)
{
	if ((remote->high & target->mask.high) != target->network.high ||
	    (remote->low & target->mask.low) != target->network.low)
		return false;
	return !target->port || target->port == bpf_ntohl(ctx->remote_port) || target->port == ctx->local_port;
}

/* The route to the path of a connection, or NONE where the path is not known, or never forgets.
 *
 * This function and the next are verified on their own: what follows them is verified for a number that
 * may be any, and not again for each.
 */
__noinline int route_to(struct bpf_sock_ops *ctx)
{
	struct address remote = remote_of(ctx);

	for (__u32 number = 0; number < MOST; number++) {
		const struct route *route = (const struct route *)&routes[number];

		barrier_var(route); /* or the compiler takes the zeros that it sees for what stands there */
		if (route->verb == END)
			break;
		if (concerns(&route->target, &remote, ctx))
			return route->verb == ARM ? (int)number : NONE;
	}
	return NONE;
}

static __always_inline __u64 cgroup_of(const struct tcp_sock *tp)
{
	return tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup->kn->id;
}

/* The meaning of the cgroup of who made the socket, or its listener; 0 where nobody knows.
 *
 * Cgroups below a unit are not in the map: anybody may make any number of cgroups below his own.
 */
__noinline __u64 meaning_of(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	const struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	const struct cgroup *cgroup;

	if (!tp)
		return 0;
	cgroup = tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup;
	for (int level = 0; level < LEVELS; level++) {
		__u64 id = cgroup->kn->id;
		const __u64 *known = bpf_map_lookup_elem(&owners, &id);
		const struct cgroup_subsys_state *above = cgroup->self.parent;

		if (known)
			return level && !(*known & ALL_BELOW) ? 0 : *known;
		if (!above)
			break;
		cgroup = above->cgroup;
	}
	return 0;
}

/* The rule for a connection that takes this path, or NONE where it is left to the next scan. */
__noinline int rule_for(struct bpf_sock_ops *ctx, __u32 path)
{
	struct address remote = remote_of(ctx), local = local_of(ctx), loopback = loopback_of(ctx);
	bool to_itself = remote.high == local.high && remote.low == local.low;
	__u64 meaning = meaning_of(ctx);

	for (__u32 number = 0; number < MOST; number++) {
		const struct rule *rule = (const struct rule *)&rules[number];

		barrier_var(rule);
		if (rule->verb == END)
			break;
		if (!(rule->paths >> (path & 63) & 1))
			continue;
		if (!concerns(&rule->target, &remote, ctx) &&
		    !(rule->verb == LEAVE && to_itself && concerns(&rule->target, &loopback, ctx)))
			continue;
		if (rule->owner && !meaning)
			break;
		if (rule->owner && !(meaning >> (rule->owner & 63) & 1))
			continue;
		return rule->verb == ARM ? (int)number : NONE;
	}
	return NONE;
}

/* policy.arming.times */
static __always_inline struct settings wish_of(const struct rule *rule, const struct route *route)
{
	struct settings wish = rule->wish;

	if (wish.idle)
		return wish;
	if (wish.interval > route->third)
		wish.interval = route->third;
	wish.idle = route->below - wish.interval;
	if (wish.idle < 1)
		wish.idle = 1;
	if (wish.idle > MAX_KEEPIDLE)
		wish.idle = MAX_KEEPIDLE;
	if (wish.interval > wish.idle)
		wish.interval = wish.idle;
	return wish;
}

/* The steady period of probes that are answered is the longer of both: net/ipv4/tcp_timer.c. */
static __always_inline bool is_safe(const struct settings *times, const struct route *route)
{
	return times->idle <= route->below && times->interval <= route->below;
}

static __always_inline __s64 least(__s64 one, __s64 other)
{
	return one < other ? one : other;
}

/* What is kept, in seconds: strictness.Promise (policy) is its twin. */
struct promise {
	__u64 outage; /* that is survived */
	__u64 noticed; /* when a dead peer is; 0 for never */
	__u64 silent; /* for how long a scan may find the connection */
};

static __always_inline __u64 outage_of(const struct settings *times)
{
	return (__u64)(times->probes - 1) * times->interval;
}

/* strictness.number_of_probes (policy) */
static __always_inline __u64 probes_to_set(__u64 idle, __u64 interval, __s32 wanted, const struct promise *kept)
{
	__u64 fewest = (kept->outage + interval - 1) / interval + 1, probes = wanted;

	if (idle < kept->silent)
		idle = kept->silent;
	if (kept->noticed)
		probes = least(probes, (kept->noticed - idle) / interval);
	return probes < fewest ? fewest : probes;
}

/* What decide_arming (policy) sets where this stands: nothing gets laxer, a dead peer is noticed no later, and no
 * outage is survived for less long, which counts most. What stands is longer than nothing. Where it is off, a dead
 * peer was never noticed, and the outage that the rule's own times survive is survived too. */
static __always_inline struct settings times_to_set(const struct settings *stands, const struct settings *wish,
						const struct route *route)
{
	struct promise kept = {
		.outage = outage_of(stands),
		.noticed = stands->idle + (__u64)stands->probes * stands->interval,
		.silent = least(stands->idle, route->below),
	};
	__u64 idle = least(stands->idle, wish->idle), interval = least(stands->interval, wish->interval), probes;
	__s64 most = stands->interval, longer;

	if (!stands->on) {
		kept.noticed = 0;
		if (kept.outage < outage_of(wish))
			kept.outage = outage_of(wish);
		if (most < wish->interval)
			most = wish->interval;
	}
	probes = probes_to_set(idle, interval, wish->probes, &kept);
	if (stands->on && idle == (__u64)stands->idle && interval == (__u64)stands->interval)
		probes = stands->probes;
	if (probes >= MAX_KEEPCNT) {
		longer = (kept.outage + MAX_KEEPCNT - 2) / (MAX_KEEPCNT - 1);
		longer = least(least(longer, most), least(idle, route->below >> 1));
		if ((__s64)interval < longer) {
			interval = longer;
			idle = least(idle, route->below - longer);
			probes = probes_to_set(idle, interval, wish->probes, &kept);
		}
		probes = least(probes, MAX_KEEPCNT);
	}
	return (struct settings){ .idle = idle, .interval = interval, .probes = probes, .on = 1 };
}

static __always_inline long set(struct bpf_sock_ops *ctx, int level, int name, const __s32 *value)
{
	return bpf_setsockopt(ctx, level, name, (void *)value, sizeof(*value));
}

static __always_inline void count(const struct tcp_sock *tp, const struct rule *rule)
{
	struct counted key = { .cgroup = cgroup_of(tp), .rule = rule->number };
	__u64 one = 1, *number = bpf_map_lookup_elem(&counts, &key);

	if (!number && bpf_map_update_elem(&counts, &key, &one, BPF_NOEXIST))
		number = bpf_map_lookup_elem(&counts, &key); /* another processor was faster */
	else if (!number)
		return;
	if (number)
		__sync_fetch_and_add(number, 1);
}

static __always_inline void enable(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct tcp_sock *tp,
				   const struct rule *rule, const struct route *route)
{
	struct settings system = system_of((const struct sock_common *)tp), stands = settings_of(tp, &system);
	struct settings wish = wish_of(rule, route), times;
	__u8 inherited = inherited_by(tp);
	struct armed *record;

	if (stands.idle < 1 || stands.interval < 1 || stands.probes < 1)
		return; /* the sysctls hold what is no time: left to the scan */
	if (tp->inet_conn.icsk_user_timeout)
		return; /* may end the connection before its probes do: left to the scan */
	if (is_safe(&stands, route) && (stands.on || !(inherited & FOLLOWS_IDLE)))
		return; /* not at risk, or the program chose times that are safe: its own to switch on, or the scan's */
	if (!(inherited & FOLLOWS_PROBES) && wish.probes < stands.probes)
		wish.probes = stands.probes;
	times = times_to_set(&stands, &wish, route);
	if (!is_safe(&times, route))
		return;
	record = bpf_sk_storage_get(&armed, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!record)
		return;
	bpf_get_socket_cookie(ctx); /* by which the record is found: the kernel gives one only to who asks */
	record->before = stands;
	record->after = times;
	record->inherited = inherited;
	/* switched on last, so that the timer is set once: nothing has been idle yet */
	if (set(ctx, IPPROTO_TCP, TCP_KEEPINTVL, &times.interval) || set(ctx, IPPROTO_TCP, TCP_KEEPCNT, &times.probes) ||
	    set(ctx, IPPROTO_TCP, TCP_KEEPIDLE, &times.idle) ||
	    (!stands.on && set(ctx, constants.sol_socket, constants.so_keepalive, &times.on)))
		return;
	record->state = SET;
	count(tp, rule);
}

SEC("sockops")
int arm_connection(struct bpf_sock_ops *ctx)
{
	const struct tcp_sock *tp;
	struct bpf_sock *sk;
	int route, rule;

	if (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	route = route_to(ctx);
	if (route == NONE)
		return 1;
	rule = rule_for(ctx, AT(routes, route, route)->path);
	if (rule == NONE)
		return 1;
	sk = ctx->sk;
	tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (tp)
		enable(ctx, sk, tp, AT(rules, rule, rule), AT(routes, route, route));
	return 1;
}
