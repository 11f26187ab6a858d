/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Tell our own workers, which have sockets of other programs open beside these, from all other processes. */
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define WORKER "keepaliveD-work" /* touching.WORKER is its twin */

enum { CAP_SYS_PTRACE = 19 };

union name {
	char text[16];
	__u64 words[2];
};

/* Whether the process of this thread is a worker. Anybody may take its name, but not the capability that it requires. */
static __always_inline bool is_worker(const struct task_struct *task)
{
	const union name ours = { .text = WORKER };
	const struct cred *cred;
	union name name = {};
	__u32 capabilities = 0;

	BPF_CORE_READ_STR_INTO(&name.text, task, group_leader, comm);
	if (name.words[0] != ours.words[0] || name.words[1] != ours.words[1])
		return false;
	cred = BPF_CORE_READ(task, real_cred);
	bpf_probe_read_kernel(&capabilities, sizeof(capabilities), &cred->cap_permitted);
	return capabilities & 1U << CAP_SYS_PTRACE && !BPF_CORE_READ(cred, user_ns, level);
}
