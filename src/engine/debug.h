/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a debugger asks of an engine: stop the guest, look at it, let it go.
 *
 * The debugger is gdb.c's stub, on the main thread, and it is the only one. Nothing of this is
 * the guest's: it keeps its own debug registers and its own int3, and is not to notice (where an
 * engine cannot hide something, it says so). An engine for which nobody asks to debug pays
 * nothing.
 *
 * A vCPU is stopped between two instructions, or it is not stopped. A new engine's are not; nor
 * are they after reset(), which forgets points, too. Where nothing else is said, the operations
 * are the main thread's, and every vCPU is stopped (pause()) or not yet in run().
 *
 * Tour 8.10: A guest under the magnifying glass
 */
#ifndef ENGINE_DEBUG_H
#define ENGINE_DEBUG_H

#include "host/types.h"

#include <pthread.h>

struct cpu_state;
struct engine;
struct memory;

/*
 * Something at a guest-virtual address that stops whoever comes by: on every vCPU, in every
 * address space, whether anything is mapped there or not.
 */
enum debug_point_kind {
	DEBUG_CODE,	 /* about to execute the instruction that begins there; may be an int3 */
	DEBUG_CODE_HARD, /* the same, and guest memory is not touched for it */
	DEBUG_WRITE,	 /* has written one of these bytes */
	DEBUG_ACCESS,	 /* has written or read */
};

struct debug_point {
	enum debug_point_kind kind;
	u64 address;
	u64 length; /* bytes; of code it says nothing */
};

enum debug_reason {
	DEBUG_AT_CODE, /* rip is at the point; the instruction is yet to come */
	DEBUG_WATCHED, /* rip is behind the instruction that did it */
	DEBUG_STEPPED, /* DEBUG_STEP is done */
};

/* A vCPU has stopped by itself. */
struct debug_stop {
	unsigned vcpu;
	enum debug_reason reason;
	struct debug_point point; /* not of DEBUG_STEPPED; address: of a byte that was touched */
};

/* Who is told. */
struct debugger {
	/*
	 * This vCPU has stopped, as if by pause(), and stays so until resume(); the others run on.
	 * Called by its thread, which holds no lock of the engine's. Returns at once, and calls
	 * none of the operations.
	 */
	void (*stopped)(struct debugger *debugger, const struct debug_stop *stop);

	/*
	 * A vCPU keeps pause() waiting, and may do so for long: a driver that resets a disk waits
	 * for the host, which may never answer. Called every DEBUG_PATIENCE_MS, by the main thread,
	 * which has other things to do meanwhile; no lock of the engine's is held. False: wait no
	 * longer.
	 */
	bool (*waiting)(struct debugger *debugger);
};

#define DEBUG_PATIENCE_MS 100

enum debug_action {
	DEBUG_STAY, /* stopped */
	DEBUG_RUN,
	/*
	 * One instruction (of a repeated string instruction, one repetition), or the delivery of
	 * the fault that it causes; then it reports DEBUG_STEPPED, or another reason if it has one.
	 * Interrupts wait meanwhile, where the engine can have them wait: who steps through a
	 * function does not want to see every tick of the timer. A halted vCPU takes one, though,
	 * since nothing else will ever come of it.
	 */
	DEBUG_STEP,
};

/*
 * The vector and x87 registers: an XSAVE area in the standard format, components where CPUID leaf
 * 0xD says. One whose bit in XSTATE_BV is clear has its initial value, whatever is found there.
 */
#define DEBUG_XSAVE_SIZE 4096

struct debug_xsave {
	u64 features; /* components that the guest's CPU has: an XCR0 of all of them */
	u8 area[DEBUG_XSAVE_SIZE];
};

struct debug_ops {
	/*
	 * This is your debugger, for good: reset() does not change that. Once, right after open(),
	 * and never where nobody wants to debug.
	 */
	void (*attach)(struct engine *engine, struct debugger *debugger);

	/*
	 * Stop every vCPU. Returns when all have stopped: between two instructions, all effects of
	 * the last one done; or outside run(), in which case it will stop as soon as it enters. Or
	 * when the debugger waits no longer, and then some may run on up to their next instruction.
	 * At any time between power-on and the end; a second time is nothing.
	 */
	void (*pause)(struct engine *engine);

	/*
	 * What each vCPU does next, one action per vCPU. All are stopped. A vCPU whose rip is at a
	 * code point reports that again, without executing anything: who wants to pass takes the
	 * point away and steps. stop() ends whatever waits for this.
	 */
	void (*resume)(struct engine *engine, const enum debug_action *actions);

	/* Its registers. Setting: -errno, and nothing changed, if the engine does not take them. */
	int (*get_state)(struct engine *engine, unsigned vcpu, struct cpu_state *state);
	int (*set_state)(struct engine *engine, unsigned vcpu, const struct cpu_state *state);
	int (*get_xsave)(struct engine *engine, unsigned vcpu, struct debug_xsave *xsave);
	int (*set_xsave)(struct engine *engine, unsigned vcpu, const struct debug_xsave *xsave);

	/*
	 * Where that guest-virtual address of the vCPU's is now: a debugger's question, which no
	 * permission forbids, which faults nowhere and leaves no accessed or dirty bit. -EFAULT:
	 * nowhere.
	 */
	int (*translate)(struct engine *engine, unsigned vcpu, u64 address, u64 *gpa);

	/*
	 * Guest RAM, within one page. What is read has none of our own int3 in it, and what is
	 * written goes below them; translated code is forgotten. -EFAULT: no RAM there.
	 */
	int (*read)(struct engine *engine, u64 gpa, void *to, u64 length);
	int (*write)(struct engine *engine, u64 gpa, const void *from, u64 length);

	/*
	 * -ENOSPC: one too many (of this kind, perhaps). -EFAULT: DEBUG_CODE would have to be
	 * written into memory, which is not there. No point is added twice, and none removed that
	 * was not added: exactly the same three values. `vcpu`: whose address space it is, where
	 * that matters.
	 */
	int (*add_point)(struct engine *engine, unsigned vcpu, const struct debug_point *point);
	void (*remove_point)(struct engine *engine, const struct debug_point *point);
};

/*
 * For pause(), with the lock that guards who has stopped: until `changed` is signalled. False: the
 * debugger waits no longer.
 */
bool debug_wait(struct debugger *debugger, pthread_cond_t *changed, pthread_mutex_t *lock);

/*
 * translate(), for an engine that has the registers at hand: what these page tables say. -EFAULT:
 * nothing.
 */
int debug_walk(const struct memory *memory, const struct cpu_state *state, u64 address, u64 *gpa);

#endif
