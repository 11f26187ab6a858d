// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Tells what connect.bpf.c has kept of the sockets that it armed and that still live, in all network namespaces. */
#include "connect.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* recall.RECORD is its twin */
struct record {
	__u64 cookie;
	struct armed armed;
	__u32 unused;
};

const struct record *const known = 0; /* BTF has what variables are of, and not what only functions use */

SEC("iter/bpf_sk_storage_map")
int read_armed(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct armed *armed = ctx->value;
	const struct sock *sk = ctx->sk;
	struct record record = {};

	if (!sk || !armed || armed->state == UNSET)
		return 0;
	record.cookie = sk->__sk_common.skc_cookie.counter;
	record.armed = *armed;
	if (!bpf_seq_write(ctx->meta->seq, &record, sizeof(record)))
		armed->state = READ;
	return 0;
}

/* Drop the records that were read: they are kept elsewhere. */
SEC("iter/bpf_sk_storage_map")
int forget_read(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct armed *armed = ctx->value;

	if (armed && armed->state == READ)
		armed->state = UNSET;
	return 0;
}
