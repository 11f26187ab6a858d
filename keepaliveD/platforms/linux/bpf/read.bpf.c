// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The TCP sockets of a network namespace, each recorded under its lock: for kernels too old for walk.bpf.c. */
#include "ignored.h"
#include "record.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct record *const known = 0; /* BTF has what variables are of, and not what only functions use */

SEC("iter/tcp")
int list_sockets(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct record record = {};
	const struct tcp_sock *tp;

	if (!common || !(1 << common->skc_state & STATES))
		return 0;
	put_address(&record.remote, common, common->skc_daddr, &common->skc_v6_daddr);
	if (ignoring && is_ignored(record.remote))
		return 0;
	tp = bpf_skc_to_tcp_sock(common); /* NULL for those in TIME_WAIT, which no program holds */
	if (!tp)
		return 0;
	record.cookie = bpf_get_socket_cookie(common);
	record.state = common->skc_state;
	record.uid = ctx->uid;
	fill(&record, tp, read_clocks());
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}
