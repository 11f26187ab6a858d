/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Tell our own workers, which have sockets of other programs open beside these, from all other processes. */
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define WORKER "keepaliveD-work" /* touching.WORKER is its twin */

union name {
	char text[16];
	__u64 words[2];
};

/* Whether the process of this thread is a worker. Anybody may take its name, but only root its user. */
static __always_inline bool is_worker(const struct task_struct *task)
{
	const union name ours = { .text = WORKER };
	union name name = {};

	bpf_probe_read_kernel_str(name.text, sizeof(name.text), task->group_leader->comm);
	return name.words[0] == ours.words[0] && name.words[1] == ours.words[1] && !BPF_CORE_READ(task, real_cred, uid.val);
}
