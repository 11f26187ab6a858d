/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What is kept of a socket that was armed at connect.
 */
#pragma once

#include "settings.h"

enum { FOLLOWS_IDLE = 1, FOLLOWS_INTERVAL = 2, FOLLOWS_PROBES = 4 }; /* model.Own */

enum { UNSET, SET, TOLD }; /* not set, or on record elsewhere; set; told */

/* recall.RECORD has it as its part */
struct armed {
	struct settings before, after;
	__u8 inherited; /* of what stood before: what followed the sysctls */
	__u8 state;
	__u16 unused;
};

/* 0 stands for the namespace's value: keepalive_time_when and its like, include/net/tcp.h */
static __always_inline __u8 inherited_by(const struct tcp_sock *tp)
{
	return (tp->keepalive_time ? 0 : FOLLOWS_IDLE) | (tp->keepalive_intvl ? 0 : FOLLOWS_INTERVAL) |
	       (tp->keepalive_probes ? 0 : FOLLOWS_PROBES);
}
