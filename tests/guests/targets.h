/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which devices the lines of violations.h are about, and what becomes of whoever
 * breaks a rule: words that the guest "violate" and the table of system tests share.
 */
#ifndef TARGETS_H
#define TARGETS_H

enum devices {
	CONSOLE = 1,
	BLOCK = 2,
	NET = 4,
	RNG = 8,
	CONFIGURED = CONSOLE | BLOCK | NET, /* those that have a configuration of their own */
	EACH = CONFIGURED | RNG,
	ONLY_SPLIT = 16, /* of no use with rings of the other kind */
	ONLY_PACKED = 32,
};

enum kind {
	BREAKS,	 /* the device sets DEVICE_NEEDS_RESET; with --strict the launcher ends */
	LENIENT, /* taken in the obvious sense; with --strict the launcher ends */
	REFUSED, /* FEATURES_OK does not stick; with --strict the launcher ends */
};

#endif
