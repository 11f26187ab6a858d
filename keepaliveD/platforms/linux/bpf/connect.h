/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * What is kept of a socket that was armed at connect.
 */
#pragma once

#include "settings.h"

enum { UNSET, SET, READ }; /* not set, or on record elsewhere; set; set, and read by recall.py */

/* recall.RECORD has it as its part */
struct armed {
	struct settings before, after;
	__u8 inherited; /* of what stood before: what followed the sysctls */
	__u8 state;
	__u16 unused;
};
