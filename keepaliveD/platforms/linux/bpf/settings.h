/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * A socket's keepalive, as getsockopt returns and setsockopt takes it.
 */
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* libbpf.CONSTANTS is its twin: they differ between architectures */
const volatile struct {
	__u32 hz;
	__u32 sol_socket;
	__u32 so_keepalive;
} constants;

enum { TCP_KEEPIDLE = 4, TCP_KEEPINTVL = 5, TCP_KEEPCNT = 6 };

enum { FOLLOWS_IDLE = 1, FOLLOWS_INTERVAL = 2, FOLLOWS_PROBES = 4 }; /* model.Own */

struct settings {
	__s32 idle; /* seconds */
	__s32 interval;
	__s32 probes;
	__s32 on;
};

/* jiffies of either sign; there is no signed division */
static __always_inline __s32 seconds(__s32 jiffies)
{
	__u32 hz = constants.hz ?: 1;

	return jiffies < 0 ? -(__s32)((__u32)-jiffies / hz) : (__s32)((__u32)jiffies / hz);
}

/* those of its network namespace; `on` is nothing there */
static __always_inline struct settings system_of(const struct sock_common *sk)
{
	const struct netns_ipv4 *net = &sk->skc_net.net->ipv4;
	struct settings system = {
		.idle = seconds(net->sysctl_tcp_keepalive_time),
		.interval = seconds(net->sysctl_tcp_keepalive_intvl),
		.probes = net->sysctl_tcp_keepalive_probes,
	};

	return system;
}

static __always_inline struct settings settings_of(const struct tcp_sock *tp, const struct settings *system)
{
	const struct sock *sk = (const struct sock *)tp;
	struct settings stands = *system;
	__u32 hz = constants.hz ?: 1;

	if (tp->keepalive_time)
		stands.idle = tp->keepalive_time / hz;
	if (tp->keepalive_intvl)
		stands.interval = tp->keepalive_intvl / hz;
	if (tp->keepalive_probes)
		stands.probes = tp->keepalive_probes;
	stands.on = sk->__sk_common.skc_flags >> SOCK_KEEPOPEN & 1;
	return stands;
}

/* 0 stands for the namespace's value: keepalive_time_when and its like, include/net/tcp.h */
static __always_inline __u8 inherited_by(const struct tcp_sock *tp)
{
	return (tp->keepalive_time ? 0 : FOLLOWS_IDLE) | (tp->keepalive_intvl ? 0 : FOLLOWS_INTERVAL) |
	       (tp->keepalive_probes ? 0 : FOLLOWS_PROBES);
}
