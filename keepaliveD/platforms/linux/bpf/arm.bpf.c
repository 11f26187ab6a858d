// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Keepalive in open sockets: reads the settings of those that are wanted, or sets them.
 *
 * User space decides what to set by what was read; it is set only where that still stands. The
 * iterator holds the socket's lock, so nobody sets anything in between.
 */
#include "settings.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* armer.SLOT is its twin */
enum { LOOK, SET, STANDS, DONE, CHANGED, FAILED }; /* what is to be done, then what came of it */

struct slot {
	__u64 cookie;
	struct settings stands; /* read by LOOK; expected by SET, and afterwards what stands now */
	struct settings system; /* of its network namespace; `on` is nothing there */
	struct settings after;
	__s32 state;
	__s32 inherited; /* which of stands follow the namespace; read and expected as stands is */
	__u16 states; /* 1 << TCP state, of those in which this may be done */
	__u16 unanswered; /* probes; read by LOOK */
	__s32 user_timeout; /* ms; read by LOOK */
};
_Static_assert(sizeof(struct slot) % 8 == 0, "the kernel places the values of an array so");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, __u64); /* cookie */
	__type(value, __u32); /* which of the slots */
} wanted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

enum { OFTEN = 32768 }; /* sockets, after which user space learns that this goes on */

__u32 visited, next; /* next: slot after the one reached last; user space lists sockets as they are visited */

/* without a look at the map where the next slot is this socket's: that would be a third of a pass over a million */
static __always_inline struct slot *slot_of(__u64 cookie)
{
	__u32 index = next, *found;
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);

	if (!slot || slot->cookie != cookie) {
		found = bpf_map_lookup_elem(&wanted, &cookie);
		if (!found)
			return NULL;
		index = *found;
		slot = bpf_map_lookup_elem(&slots, &index);
	}
	next = index + 1;
	return slot;
}

static __always_inline bool same(const struct settings *one, const struct settings *other)
{
	return one->idle == other->idle && one->interval == other->interval && one->probes == other->probes &&
	       one->on == other->on;
}

/* All four, also where they stand: what is not the socket's own would follow its network namespace.
 * The idle time last, for that arms the timer anew, less the time that the connection has been idle for
 * (tcp_sock_set_keepidle_locked, net/ipv4/tcp.c). */
static __always_inline long set(struct sock_common *sk, const struct settings *after)
{
	struct settings want = *after;
	long failed = 0;

	failed |= bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPINTVL, &want.interval, sizeof(want.interval));
	failed |= bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPCNT, &want.probes, sizeof(want.probes));
	failed |= bpf_setsockopt(sk, constants.sol_socket, constants.so_keepalive, &want.on, sizeof(want.on));
	failed |= bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPIDLE, &want.idle, sizeof(want.idle));
	return failed;
}

/* each that differs, as far as it can be */
static __always_inline void set_back(struct sock_common *sk, const struct settings *now, const struct settings *before)
{
	struct settings want = *before;

	if (want.interval != now->interval)
		bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPINTVL, &want.interval, sizeof(want.interval));
	if (want.probes != now->probes)
		bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPCNT, &want.probes, sizeof(want.probes));
	if (want.on != now->on)
		bpf_setsockopt(sk, constants.sol_socket, constants.so_keepalive, &want.on, sizeof(want.on));
	if (want.idle != now->idle)
		bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPIDLE, &want.idle, sizeof(want.idle));
}

SEC("iter/tcp")
int arm_sockets(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	const struct tcp_sock *tp;
	struct settings system, stands;
	struct slot *slot;

	if (!common)
		return 0;
	if (!(++visited % OFTEN))
		bpf_seq_write(ctx->meta->seq, &(char){ 0 }, 1);
	if (!(1U << (common->skc_state & 31) & STATES))
		return 0;
	slot = slot_of(bpf_get_socket_cookie(common));
	if (!slot || !(1U << (common->skc_state & 31) & slot->states))
		return 0;
	tp = bpf_skc_to_tcp_sock(common);
	/* an orphan's timer ends its wait in FIN_WAIT2: to switch keepalive off would stop that for ever */
	if (!tp || !((const struct sock *)tp)->sk_socket)
		return 0;
	system = system_of(common);
	stands = settings_of(tp, &system);
	if (slot->state == LOOK) {
		slot->system = system;
		slot->stands = stands;
		slot->inherited = inherited_by(tp);
		slot->user_timeout = tp->inet_conn.icsk_user_timeout;
		slot->unanswered = tp->inet_conn.icsk_probes_out;
		slot->state = STANDS;
	} else if (slot->state == SET) { /* once: a bucket that changes may be walked twice */
		slot->state = CHANGED;
		if (same(&stands, &slot->stands) && slot->inherited == inherited_by(tp)) {
			long failed = set(common, &slot->after);

			stands = settings_of(tp, &system);
			slot->state = failed || !same(&stands, &slot->after) ? FAILED : DONE;
		}
		if (slot->state == FAILED) {
			set_back(common, &stands, &slot->stands);
			stands = settings_of(tp, &system);
		}
		slot->stands = stands;
	}
	return 0;
}
