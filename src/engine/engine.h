/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine interface: what runs guest instructions.
 *
 * An engine runs vCPUs until the machine stops. It calls the board on I/O
 * (board/bus.h, board_eoi()); the board calls it to interrupt. That is all that
 * either knows of the other. A reboot makes everything in it anew: power-on
 * state is then the state of something new.
 *
 * Tour 5.10: What runs instructions
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "engine/debug.h"
#include "host/machine.h"
#include "host/memory.h"

#include <signal.h>

struct board;
struct notifier;

/* An engine's own, to call its vCPUs' threads back; the launcher leaves it alone. */
#define ENGINE_SIGNAL SIGRTMIN

struct segment {
	u64 base;
	u32 limit; /* in bytes, granularity applied */
	u16 selector;
	u8 type; /* bits 3..0 of the descriptor's access byte */
	bool s, present, avl, l, db, g;
	u8 dpl;
};

struct descriptor_table {
	u64 base;
	u16 limit;
};

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI }; /* then R8 to R15: the architecture's numbers */

/* The architectural state of one vCPU: what a loader needs to say, and a debugger to see. */
struct cpu_state {
	u64 gpr[16];
	u64 rip, rflags;
	struct segment cs, ds, es, fs, gs, ss, tr, ldt;
	struct descriptor_table gdt, idt;
	u64 cr0, cr2, cr3, cr4, efer;
	u64 kernel_gs_base;
};

struct engine;

/* What the user may say about engines. */
struct engine_options {
	unsigned vcpus;
	u64 soft_cache;		/* bytes of translated code, of each vCPU */
	bool soft_stats;	/* print them at the end */
	bool soft_perf;		/* a map of translated code for perf */
	bool may_share;		/* RAM: what is in it is loaded again if memory->fd says so */
	unsigned soft_without;	/* bits of engine/soft/tuning.h */
	unsigned trace;		/* SOFT_TRACE_* */
	const char *trace_file; /* where to */
};

#define SOFT_TRACE_EXEC 1u /* each block that was entered through C */
#define SOFT_TRACE_INT	2u /* interrupts and exceptions */
#define SOFT_TRACE_MMU	4u /* misses, flushes, control registers */
#define SOFT_TRACE_IO	8u /* ports and device memory */

/*
 * A dozen functions. Those about the IOAPIC and about notifications may be missing: not every
 * engine needs the one, or can do the other.
 *
 * Tour 5.11: All that is asked of an engine
 */
struct engine_ops {
	const char *name; /* "kvm", "soft" */

	/*
	 * A new engine for so many vCPUs, without memory, or NULL with *problem filled: what is
	 * missing, and what to do about it. `board` NULL: only to see whether it can be. The
	 * options outlive the engine.
	 */
	struct engine *(*open)(struct board *board, const struct engine_options *options,
			       struct problem *problem);
	void (*close)(struct engine *engine);

	/*
	 * --engine=auto: would it boot a stock kernel, and at what speed? Asked once, before
	 * memory is mapped. *why is filled either way.
	 */
	bool (*probe)(struct engine *engine, struct problem *why);

	/*
	 * The guest reboots: as just opened, with what was opened then. No vCPU runs. -errno
	 * with *problem filled.
	 */
	int (*reset)(struct engine *engine, struct problem *problem);

	/*
	 * Map host memory at gpa (address, size and host are page-aligned). -errno with *problem
	 * filled.
	 */
	int (*map)(struct engine *engine, u64 gpa, u64 size, void *host, struct problem *problem);

	/*
	 * Add the next vCPU: 0, 1, ..., which is its APIC id too. `initial` NULL: it waits for INIT
	 * and SIPI. -errno with *problem filled.
	 */
	int (*add_vcpu)(struct engine *engine, const struct cpu_state *initial,
			struct problem *problem);

	/* This thread is the vCPU, until the machine stops running. */
	void (*run)(struct engine *engine, unsigned vcpu);

	/* Make every run() return soon. Any thread; the machine is no longer running. */
	void (*stop)(struct engine *engine);

	/* Send a message-signalled interrupt. Any thread; no lock of the caller's is held. */
	void (*msi)(struct engine *engine, u64 address, u32 data);

	/*
	 * What an IOAPIC pin would send; the engine must report the end of level-triggered ones
	 * (board_eoi()). Never calls back. NULL where the engine needs no such knowledge.
	 */
	void (*ioapic_route)(struct engine *engine, unsigned pin, u64 address, u32 data, bool level,
			     bool masked);

	/*
	 * Signal this eventfd when the guest writes `len` bytes at gpa (0: any length), instead of
	 * calling the bus. NULL: cannot, the bus will be called as ever.
	 */
	struct notifier *(*on_write)(struct engine *engine, u64 gpa, unsigned len, int eventfd);
	void (*remove_notifier)(struct engine *engine, struct notifier *notifier);

	const struct debug_ops *debug; /* NULL: no debugger can be attached */
};

/* What every engine begins with. */
struct engine {
	const struct engine_ops *ops;
	struct board *board;
};

/*
 * Open the engine that `name` asks for: "kvm", "soft", or "auto" for the first that opens and
 * passes its probe; then one line says which was taken and why. NULL with *problem filled:
 * which were tried, and why not.
 */
struct engine *engine_open(const char *name, struct board *board,
			   const struct engine_options *options, struct problem *problem);

/* Is that the name of one? For options. */
bool engine_known(const char *name);

/* --engine=help: a line each on standard output, with its reason. */
void engine_help(void);

#endif
