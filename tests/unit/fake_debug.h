/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An engine that can be debugged and does nothing else: a few vCPUs that stand still and the
 * memory that they see. It holds whoever debugs it to the rules of engine/debug.h, and
 * aborts when one is broken.
 */
#ifndef FAKE_DEBUG_H
#define FAKE_DEBUG_H

#include "engine/engine.h"

#define FAKE_DEBUG_VCPUS  3
#define FAKE_DEBUG_POINTS 8
#define FAKE_DEBUG_RAM	  (4 * PAGE_SIZE)
/* Guest-virtual: RAM is there, in reverse order of pages. */
#define FAKE_DEBUG_BASE 0xffff800000000000ull

struct fake_debug {
	struct engine engine;
	struct engine_ops ops;
	struct machine machine;
	struct debugger *debugger;
	struct cpu_state state[FAKE_DEBUG_VCPUS];
	struct debug_xsave xsave[FAKE_DEBUG_VCPUS];
	u8 ram[FAKE_DEBUG_RAM];
	struct debug_point points[FAKE_DEBUG_POINTS];
	unsigned point_count;
	enum debug_action actions[FAKE_DEBUG_VCPUS];
	unsigned resumes; /* calls so far */
	bool off;	  /* no vCPU is in run() yet */
};

/* `features`: components of XSAVE that its CPUs have. */
void fake_debug_init(struct fake_debug *fake, u64 features);
void fake_debug_destroy(struct fake_debug *fake);

/* As after reset(). The test says when it is no longer off. */
void fake_debug_reset(struct fake_debug *fake);

/* That vCPU, which runs, stops by itself. */
void fake_debug_stop(struct fake_debug *fake, unsigned vcpu, enum debug_reason reason,
		     const struct debug_point *point);

#endif
