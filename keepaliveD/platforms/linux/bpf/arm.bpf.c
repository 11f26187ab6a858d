// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Keepalive in open sockets: tells what stands in those that are asked for, or sets it.
 *
 * What to set is decided elsewhere, by what was told; it is set only where that still stands. The
 * iterator holds the socket's lock, so nobody sets anything in between.
 */
#include "settings.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* armer.WISH and RESULT are the twins of these */
enum { LOOK, SET };

struct wish {
	struct settings before, after;
	__u32 verb;
};

enum { STANDS, DONE, CHANGED, FAILED };

struct result {
	__u64 cookie;
	struct settings stands;
	struct settings system; /* of its network namespace; `on` is nothing there */
	__u32 outcome;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, __u64); /* cookie */
	__type(value, struct wish);
} wishes SEC(".maps");

static __always_inline bool same(const struct settings *one, const struct settings *other)
{
	return one->idle == other->idle && one->interval == other->interval && one->probes == other->probes &&
	       one->on == other->on;
}

/* Never worse on the way than before; the idle time last, for that arms the timer anew, less the time
 * that the connection has been idle for (tcp_sock_set_keepidle_locked, net/ipv4/tcp.c). */
static __always_inline long set(struct sock_common *sk, const struct settings *before, const struct settings *after)
{
	struct settings want = *after;
	long failed = 0;

	if (want.interval != before->interval)
		failed |= bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPINTVL, &want.interval, sizeof(want.interval));
	if (want.probes != before->probes)
		failed |= bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPCNT, &want.probes, sizeof(want.probes));
	if (want.on != before->on)
		failed |= bpf_setsockopt(sk, constants.sol_socket, constants.so_keepalive, &want.on, sizeof(want.on));
	if (want.on || want.idle != before->idle)
		failed |= bpf_setsockopt(sk, IPPROTO_TCP, TCP_KEEPIDLE, &want.idle, sizeof(want.idle));
	return failed;
}

SEC("iter/tcp")
int arm_sockets(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct result result = {};
	const struct tcp_sock *tp;
	const struct wish *wish;

	if (!common || common->skc_state != TCP_ESTABLISHED)
		return 0;
	result.cookie = bpf_get_socket_cookie(common);
	wish = bpf_map_lookup_elem(&wishes, &result.cookie);
	if (!wish)
		return 0;
	tp = bpf_skc_to_tcp_sock(common);
	if (!tp)
		return 0;
	result.system = system_of(common);
	result.stands = settings_of(tp, &result.system);
	if (wish->verb == SET) {
		if (!same(&result.stands, &wish->before)) {
			/* where the result did not fit into the reader's page, the kernel asks once more */
			result.outcome = same(&result.stands, &wish->after) ? DONE : CHANGED;
		} else {
			long failed = set(common, &result.stands, &wish->after);

			result.stands = settings_of(tp, &result.system);
			result.outcome = failed || !same(&result.stands, &wish->after) ? FAILED : DONE;
		}
		if (result.outcome == FAILED) {
			set(common, &result.stands, &wish->before);
			result.stands = settings_of(tp, &result.system);
		}
	}
	bpf_seq_write(ctx->meta->seq, &result, sizeof(result));
	return 0;
}
