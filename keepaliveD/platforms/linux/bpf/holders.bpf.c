// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Which process of the reader's pid namespace has a socket open, and under which number: one pass over all open files.
 * Workers of ours do not count.
 *
 * It asks no process, so nobody can make it wait.
 */
#include "kernel.h"
#include "worker.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* holders.RECORD is its twin */
struct record {
	__u64 inode;
	__u32 pid;
	__u32 fd;
};

const struct record *const known = 0; /* BTF has what variables are of, and not what only functions use */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, __u64); /* inode of a socket */
	__type(value, __u8);
} wanted SEC(".maps");

/* The process id of this one as the reader sees it, whose pid namespace the iterator walks. */
static __always_inline __u32 as_reader_sees(const struct task_struct *task)
{
	const struct task_struct *reader = bpf_get_current_task_btf();
	const struct pid *pid = task->thread_pid;
	__u32 number = 0;

	if (pid)
		bpf_probe_read_kernel(&number, sizeof(number),
				      (const char *)&pid->numbers + reader->thread_pid->level * bpf_core_type_size(struct upid));
	return number;
}

SEC("iter/task_file")
int find_holders(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct record record = {};

	/* a thread may have files of its own, which /proc and pidfd_getfd(2) do not reach */
	if (!task || !file || task->pid != task->tgid || !bpf_sock_from_file(file))
		return 0;
	record.inode = file->f_inode->i_ino;
	if (!bpf_map_lookup_elem(&wanted, &record.inode) || is_worker(task))
		return 0;
	record.pid = as_reader_sees(task);
	record.fd = ctx->fd;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}
