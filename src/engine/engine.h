/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine interface: what runs guest instructions.
 *
 * An engine runs vCPUs until the machine stops. It calls the board on I/O
 * (board/bus.h, board_eoi()); the board calls it to interrupt. That is all that
 * either knows of the other. A reboot closes the engine and opens it again:
 * power-on state is then the state of something new.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "host/machine.h"
#include "host/memory.h"

struct board;
struct notifier;

struct segment {
	u64 base;
	u32 limit;	/* in bytes, granularity applied */
	u16 selector;
	u8 type;	/* bits 3..0 of the descriptor's access byte */
	bool s, present, avl, l, db, g;
	u8 dpl;
};

struct descriptor_table {
	u64 base;
	u16 limit;
};

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };	/* then R8 to R15: the architecture's numbers */

/* The architectural state of one vCPU: so far, what a loader needs to say. */
struct cpu_state {
	u64 gpr[16];
	u64 rip, rflags;
	struct segment cs, ds, es, fs, gs, ss, tr, ldt;
	struct descriptor_table gdt, idt;
	u64 cr0, cr2, cr3, cr4, efer;
};

struct engine;

struct engine_ops {
	const char *name;	/* "kvm", "soft" */

	/* Does it work here and now? If not, or if something is to be said about it, *why says what. */
	bool (*usable)(struct problem *why);

	/* A new engine without memory or vCPUs, or NULL with *problem filled. */
	struct engine *(*open)(struct board *board, struct problem *problem);
	void (*close)(struct engine *engine);

	/*
	 * --engine=auto: is this open engine fast and complete enough to boot a stock
	 * kernel? Asked before memory is mapped and vCPUs are added. NULL: always.
	 */
	bool (*probe)(struct engine *engine, struct problem *why);

	/* The most vCPUs that it can run. */
	unsigned (*max_vcpus)(struct engine *engine);

	/* Map host memory at gpa (both and size page-aligned). -errno. */
	int (*map)(struct engine *engine, u64 gpa, u64 size, void *host);

	/*
	 * Add vCPU number 0, 1, ... of `count`, with that APIC id. `initial` NULL: it
	 * waits for INIT and SIPI. -errno with *problem filled.
	 */
	int (*add_vcpu)(struct engine *engine, unsigned count, const struct cpu_state *initial,
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
};

/* What every engine begins with. */
struct engine {
	const struct engine_ops *ops;
	struct board *board;
};

/* In the order of preference; ends with NULL. */
extern const struct engine_ops *const engines[];

extern const struct engine_ops kvm_engine, soft_engine;

/* The engine of that name, or NULL. */
const struct engine_ops *engine_find(const char *name);

/*
 * Open the engine that `name` asks for: "kvm", "soft", or "auto" for the first that is usable and
 * passes its probe. On "auto", one line says which was taken and why.
 * NULL with *problem filled: which were tried, and why not.
 */
struct engine *engine_open(const char *name, struct board *board, struct problem *problem);

/* --engine=help: a line each on standard output, with its reason. */
void engine_help(void);

#endif
