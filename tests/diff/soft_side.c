/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The soft engine's side: one vCPU, the same pages at the same addresses, and a kernel
 * of one instruction per exception, `out`, which tells us that it is over. The vCPU's
 * registers are set and read from outside, as no guest could; what it does in between
 * is the engine's.
 *
 * Guest RAM is laid out so that pages that are neighbours for the program are none for
 * the engine: an access that crosses has to find both.
 *
 * The same serves garbage: bytes that nobody meant as a kernel, run as one.
 */
#include "diff.h"

#include "board/board.h"
#include "engine/soft/internal.h"
#include "engine/soft/system.h"
#include "host/memory.h"

#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RAM_SIZE MiB(4)

/* Where things are in guest RAM, by the page. */
enum frame {
	FRAME_PML4 = 1,
	FRAME_PDPT_LOW,
	FRAME_PD_LOW,
	FRAME_PT_CODE,
	FRAME_PT_DATA,
	FRAME_PDPT_HIGH,
	FRAME_PD_HIGH,
	FRAME_PT_KERNEL,
	FRAME_KERNEL, /* and the next ones: what is mapped at KERNEL_BASE */
	FRAME_DESCRIPTORS = FRAME_KERNEL,
	FRAME_IDT,
	FRAME_STUBS,
	FRAME_STACK,
	FRAME_KERNEL_END,
	FRAME_PAGES = 32,
};

#define KERNEL_BASE	 0xffffffff80000000ull
#define KERNEL_AT(frame) (KERNEL_BASE + ((frame)-FRAME_KERNEL) * PAGE_SIZE)

/* Selectors: those of user mode are what Linux gives its processes. */
#define KERNEL_CODE 0x08
#define USER_CODE32 0x23
#define USER_DATA   0x2b
#define USER_CODE   0x33
#define TASK_STATE  0x40
#define TSS_OFFSET  0x800 /* behind the GDT */
#define TSS_LENGTH  104

#define PTE_PRESENT  1ull
#define PTE_WRITE    2ull
#define PTE_USER     4ull
#define PTE_ACCESSED 0x60ull /* and dirty */
#define PTE_NX	     (1ull << 63)

#define VECTORS	      32
#define STUB_LENGTH   16
#define VECTORS_ERROR 0x27d00u /* #DF, #TS, #NP, #SS, #GP, #PF, #AC: those push an error code */
#define SEQUENCE_NS   3000000000ull /* it takes microseconds, but for others on this machine */
#define GARBAGE_NS    3000000ull
#define KICK_NS	      30000

struct soft_side {
	struct machine machine;
	struct memory *memory;
	struct board board;
	struct region ports;
	struct engine *engine;
	struct vcpu *vcpu;
	bool garbage;
	int vector; /* that was delivered; negative: none yet */
	struct layout layout;
	u32 pkru;

	pthread_t watchdog;
	_Atomic u64 deadline; /* by the monotonic clock; 0: none */
	_Atomic bool done, late;
};

static u64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void *watch(void *opaque)
{
	struct soft_side *side = opaque;

	while (!atomic_load(&side->done)) {
		struct timespec nap = {.tv_nsec = 500000};
		u64 deadline = atomic_load(&side->deadline);

		nanosleep(&nap, NULL);
		if (!deadline || now() < deadline)
			continue;
		atomic_store(&side->late, true);
		machine_stop(&side->machine, EXIT_POWERED_OFF, NULL);
		side->engine->ops->stop(side->engine);
	}
	return NULL;
}

/* An exception's handler ran. */
static void on_out(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct soft_side *side = opaque;

	(void)len, (void)value;
	side->vector = offset;
	machine_stop(&side->machine, EXIT_POWERED_OFF, NULL);
	side->engine->ops->stop(side->engine);
}

static u64 on_in(void *opaque, u64 offset, unsigned len)
{
	(void)opaque, (void)len;
	return offset;
}

static const struct region_ops port_ops = {.read = on_in, .write = on_out};

/* ------------------------------------------------------------------ guest RAM */

static u8 *frame_at(struct soft_side *side, unsigned frame)
{
	return memory_at(side->memory, frame * PAGE_SIZE, PAGE_SIZE);
}

/* Every second frame, in an order of its own. */
static unsigned page_frame(unsigned page)
{
	return FRAME_PAGES + 2 * (page * 3 % 8);
}

static void set_entry(struct soft_side *side, unsigned table, u64 address, unsigned level,
		      unsigned frame, u64 bits)
{
	unsigned index = address >> (12 + 9 * level) & 511;
	u64 entry = frame * PAGE_SIZE | PTE_PRESENT | bits;

	memcpy(frame_at(side, table) + 8 * index, &entry, 8);
}

static void map_page(struct soft_side *side, unsigned page)
{
	u64 address = pages[page].address, bits = 0;

	if (side->garbage)
		bits = PTE_WRITE;
	else
		bits = PTE_USER | (pages[page].writable ? PTE_WRITE : 0) |
		       (pages[page].executable ? 0 : PTE_NX);
	set_entry(side, page < CODE_PAGES ? FRAME_PT_CODE : FRAME_PT_DATA, address, 0,
		  page_frame(page), bits);
}

/* Page tables as a kernel would have made them: nothing accessed, nothing dirty. */
static void map_pages(struct soft_side *side)
{
	const u64 table = PTE_WRITE | PTE_USER;

	set_entry(side, FRAME_PML4, 0, 3, FRAME_PDPT_LOW, table);
	set_entry(side, FRAME_PDPT_LOW, 0, 2, FRAME_PD_LOW, table);
	set_entry(side, FRAME_PD_LOW, CODE_BASE, 1, FRAME_PT_CODE, table);
	set_entry(side, FRAME_PD_LOW, DATA_BASE, 1, FRAME_PT_DATA, table);
	set_entry(side, FRAME_PML4, KERNEL_BASE, 3, FRAME_PDPT_HIGH, table);
	set_entry(side, FRAME_PDPT_HIGH, KERNEL_BASE, 2, FRAME_PD_HIGH, table);
	set_entry(side, FRAME_PD_HIGH, KERNEL_BASE, 1, FRAME_PT_KERNEL, table);
	for (unsigned i = FRAME_KERNEL; i < FRAME_KERNEL_END; i++)
		set_entry(side, FRAME_PT_KERNEL, KERNEL_AT(i), 0, i, PTE_WRITE);
	for (unsigned i = 0; i < ALL_PAGES; i++)
		map_page(side, i);
}

static void write_descriptors(struct soft_side *side)
{
	u8 *gdt = frame_at(side, FRAME_DESCRIPTORS);
	u64 tss = KERNEL_AT(FRAME_DESCRIPTORS) + TSS_OFFSET;
	u64 stack = KERNEL_AT(FRAME_STACK) + PAGE_SIZE;
	/* Intel SDM 3A, "Segment Descriptors". */
	const u64 descriptors[10] = {
		[KERNEL_CODE / 8] = 0x00af9b000000ffff,
		[KERNEL_CODE / 8 + 1] = 0x00cf93000000ffff,
		[USER_CODE32 / 8] = 0x00cffb000000ffff,
		[USER_DATA / 8] = 0x00cff3000000ffff,
		[USER_CODE / 8] = 0x00affb000000ffff,
		[TASK_STATE / 8] = (TSS_LENGTH - 1) | (tss & 0xffffff) << 16 | 0x8bull << 40 |
				   (tss >> 24 & 0xff) << 56,
		[TASK_STATE / 8 + 1] = tss >> 32,
	};
	u16 iomap = TSS_LENGTH; /* there is none */

	memcpy(gdt, descriptors, sizeof(descriptors));
	memcpy(gdt + TSS_OFFSET + 4, &stack, 8);  /* RSP0 */
	memcpy(gdt + TSS_OFFSET + 36, &stack, 8); /* IST1 */
	memcpy(gdt + TSS_OFFSET + 102, &iomap, 2);
}

/* out VECTOR, al; jmp $. Or, for garbage: step over a byte and go on. */
static void write_stub(struct soft_side *side, unsigned vector)
{
	static const u8 skip[] = {0x48, 0x83, 0xc4, 0x08, /* add rsp, 8 */
				  0x48, 0xff, 0x04, 0x24, /* inc qword [rsp] */
				  0x48, 0xcf};		  /* iretq */
	bool error = VECTORS_ERROR >> vector & 1;
	u8 *stub = frame_at(side, FRAME_STUBS) + vector * STUB_LENGTH;

	if (side->garbage)
		memcpy(stub, skip + (error ? 0 : 4), sizeof(skip) - (error ? 0 : 4));
	else
		memcpy(stub, (const u8[]){0xe6, vector, 0xeb, 0xfe}, 4);
}

static void write_gate(struct soft_side *side, unsigned vector)
{
	u64 stub = KERNEL_AT(FRAME_STUBS) + vector * STUB_LENGTH;
	bool user = vector == VECTOR_BP || vector == VECTOR_OF;
	u64 gate[2] = {
		(stub & 0xffff) | KERNEL_CODE << 16 | (u64)(side->garbage ? 1 : 0) << 32 |
			0x8e00ull << 32 | (user ? 0x6000ull << 32 : 0) |
			(stub >> 16 & 0xffff) << 48,
		stub >> 32,
	};

	memcpy(frame_at(side, FRAME_IDT) + 16 * vector, gate, 16);
}

/* ------------------------------------------------------------------ the vCPU */

static const struct segment user_code = {
	.selector = USER_CODE,
	.limit = ~0u,
	.type = 11,
	.s = true,
	.present = true,
	.l = true,
	.g = true,
	.dpl = 3,
};
static const struct segment user_data = {
	.selector = USER_DATA,
	.limit = ~0u,
	.type = 3,
	.s = true,
	.present = true,
	.db = true,
	.g = true,
	.dpl = 3,
};

static struct cpu_state initial_state(const struct soft_side *side)
{
	struct cpu_state state = {
		.rip = CODE_BASE,
		.rflags = X86_EFLAGS_FIXED,
		.cs = user_code,
		.ss = user_data,
		.tr = {.base = KERNEL_AT(FRAME_DESCRIPTORS) + TSS_OFFSET,
		       .limit = TSS_LENGTH - 1,
		       .selector = TASK_STATE,
		       .type = 11,
		       .present = true},
		.gdt = {.base = KERNEL_AT(FRAME_DESCRIPTORS), .limit = 79},
		.idt = {.base = KERNEL_AT(FRAME_IDT), .limit = VECTORS * 16 - 1},
		.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM |
		       X86_CR0_PG,
		.cr3 = FRAME_PML4 * PAGE_SIZE,
		.cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
		       X86_CR4_FSGSBASE | X86_CR4_OSXSAVE,
		.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX,
	};

	if (side->garbage) {
		state.cs.selector = KERNEL_CODE;
		state.cs.dpl = 0;
		state.ss.selector = KERNEL_CODE + 8;
		state.ss.dpl = 0;
	}
	return state;
}

static void fail(const char *what, const struct problem *problem)
{
	fprintf(stderr, "diff: soft side: %s: %s\n", what, problem->text);
	exit(1);
}

static struct soft_side *side_new(bool garbage, unsigned without)
{
	/* As small as it may be: it shall fill up and be emptied, too. */
	const struct engine_options options = {
		.vcpus = 1, .soft_cache = MiB(4), .soft_without = without};
	struct soft_side *side = calloc(1, sizeof(*side));
	struct problem problem = {"out of memory"};
	struct cpu_state state;

	if (!side || machine_init(&side->machine))
		fail("start", &problem);
	side->garbage = garbage;
	side->layout = layout_of_cpu();
	side->memory = memory_new(RAM_SIZE, &problem);
	if (!side->memory)
		fail("memory", &problem);
	side->board = (struct board){.machine = &side->machine, .memory = side->memory};
	side->board.bus = bus_new();
	ioapic_init(&side->board.ioapic, side->board.bus);
	side->ports = (struct region){.size = VECTORS, .ops = &port_ops, .opaque = side};
	bus_add(side->board.bus, PORT, &side->ports);
	map_pages(side);
	write_descriptors(side);
	for (unsigned i = 0; i < VECTORS; i++) {
		write_stub(side, i);
		write_gate(side, i);
	}
	side->engine = engine_open("soft", &side->board, &options, &problem);
	if (!side->engine)
		fail("engine", &problem);
	side->board.engine = side->engine;
	state = initial_state(side);
	if (side->engine->ops->map(side->engine, 0, RAM_SIZE, memory_at(side->memory, 0, RAM_SIZE),
				   &problem) ||
	    side->engine->ops->add_vcpu(side->engine, &state, &problem))
		fail("vCPU", &problem);
	side->vcpu = container_of(side->engine, struct soft, engine)->vcpus[0];
	if (pthread_create(&side->watchdog, NULL, watch, side))
		fail("watchdog", &problem);
	return side;
}

static void side_free(struct soft_side *side)
{
	atomic_store(&side->done, true);
	pthread_join(side->watchdog, NULL);
	side->engine->ops->close(side->engine);
	ioapic_destroy(&side->board.ioapic);
	bus_free(side->board.bus);
	memory_free(side->memory);
	machine_destroy(&side->machine);
	free(side);
}

/* What the kernel gave this process, and so the other side. */
static u32 host_pkru(void)
{
	unsigned a, b, features = 0, d;
	u32 pkru = 0, high;

	if (__get_cpuid_count(7, 0, &a, &b, &features, &d) && features & bit_OSPKE)
		asm volatile("rdpkru" : "=a"(pkru), "=d"(high) : "c"(0));
	return pkru;
}

/* As timers and other threads call a vCPU's thread, but all the time, and for nothing. */
static void start_kicks(void)
{
	const struct itimerspec often = {.it_interval.tv_nsec = KICK_NS,
					 .it_value.tv_nsec = KICK_NS};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = ENGINE_SIGNAL};
	timer_t timer;

	event._sigev_un._tid = syscall(SYS_gettid);
	/* The engine's handler comes with the first run. */
	if (signal(ENGINE_SIGNAL, SIG_IGN) == SIG_ERR ||
	    timer_create(CLOCK_MONOTONIC, &event, &timer) ||
	    timer_settime(timer, 0, &often, NULL)) {
		perror("diff: soft side: timer");
		exit(1);
	}
}

struct soft_side *soft_side_new(unsigned without, bool kicked)
{
	struct soft_side *side = side_new(false, without);

	side->pkru = host_pkru();
	if (kicked)
		start_kicks();
	return side;
}

/* As if they had been loaded from a table. */
static void set_local(struct vcpu *vcpu, const struct sequence *sequence)
{
	for (unsigned i = 0; i < LOCALS; i++) {
		const struct local *local = &sequence->local[i];
		struct segment segment = user_data;

		segment.selector = LOCAL_SELECTOR(i);
		segment.base = local->base;
		segment.limit = local->limit;
		segment.db = local->big;
		segment.type =
			1 | (local->fixed ? 0 : 2) | (local->down ? 4 : 0) | (local->code ? 8 : 0);
		vcpu_set_segment(vcpu, i, &segment);
	}
}

/* User mode again, whatever was before. */
static void set_mode(struct vcpu *vcpu, const struct sequence *sequence)
{
	struct segment code = user_code;

	if (sequence->compat) {
		code.selector = USER_CODE32;
		code.l = false;
		code.db = true;
		for (unsigned i = ES; i <= GS; i++)
			vcpu_set_segment(vcpu, i, &user_data);
	}
	vcpu_set_segment(vcpu, CS, &code);
	vcpu_set_segment(vcpu, SS, &user_data);
	if (sequence->segmented)
		set_local(vcpu, sequence);
	vcpu->cpl = 3;
	vcpu->xcr0 = vcpu->soft->cpuid.xsave.components;
	vcpu->cr2 = 0;
	vcpu->exception.pending = false;
	vcpu->halted = vcpu->leave = false;
	vcpu->shadow = SHADOW_NONE;
	vcpu_update_mode(vcpu);
}

static void set_registers(struct soft_side *side, const struct state *state)
{
	struct vcpu *vcpu = side->vcpu;

	memcpy(vcpu->ctx.gpr, state->gpr, sizeof(vcpu->ctx.gpr));
	vcpu->ctx.rip = state->rip;
	vcpu->pkru = side->pkru;
	vectors_save(vcpu);
	vectors_to_xsave(&side->layout, &state->vectors, vcpu->xsave);
	vcpu->ctx.base[FS] = state->fs_base;
	vcpu->ctx.base[GS] = state->gs_base;
	vcpu_set_rflags(vcpu, state->rflags);
}

static void run(struct soft_side *side, u64 limit)
{
	atomic_store(&side->machine.state, MACHINE_RUNNING);
	atomic_fetch_and(&side->vcpu->ctx.poll, ~POLL_STOP);
	side->vector = -1;
	atomic_store(&side->late, false);
	atomic_store(&side->deadline, now() + limit);
	side->engine->ops->run(side->engine, 0);
	atomic_store(&side->deadline, 0);
}

/* The registers that the exception has put on the stack, and those that it left alone. */
static void read_outcome(struct soft_side *side, struct outcome *outcome)
{
	const struct vcpu *vcpu = side->vcpu;
	const u8 *frame = frame_at(side, FRAME_STACK) + vcpu->ctx.gpr[RSP] % PAGE_SIZE;

	memcpy(outcome->state.gpr, vcpu->ctx.gpr, sizeof(outcome->state.gpr));
	outcome->vector = side->vector;
	outcome->error = 0;
	if (VECTORS_ERROR >> side->vector & 1) {
		memcpy(&outcome->error, frame, sizeof(outcome->error));
		frame += 8;
	}
	memcpy(&outcome->state.rip, frame, 8);
	memcpy(&outcome->state.rflags, frame + 16, 8);
	memcpy(&outcome->state.gpr[RSP], frame + 24, 8);
	outcome->state.fs_base = vcpu->ctx.base[FS];
	outcome->state.gs_base = vcpu->ctx.base[GS];
	outcome->cr2 = vcpu->cr2;
	vectors_from_xsave(&side->layout, &outcome->state.vectors, vcpu->xsave);
}

#define CODE_GRAIN 64 /* bytes that are compared, and written if they differ */

/* As a device would: the engine is told what was written. */
static void write_code(struct soft_side *side, const struct sequence *sequence)
{
	u8 image[CODE_PAGES * PAGE_SIZE];

	sequence_code(sequence, image);
	for (unsigned at = 0; at < sizeof(image); at += CODE_GRAIN) {
		u64 gpa = page_frame(at / PAGE_SIZE) * PAGE_SIZE + at % PAGE_SIZE;
		u8 *to = memory_at(side->memory, gpa, CODE_GRAIN);

		if (!memcmp(to, image + at, CODE_GRAIN))
			continue;
		memcpy(to, image + at, CODE_GRAIN);
		guest_ram_written(side->memory, gpa, CODE_GRAIN);
	}
}

/* What a program begins with that nothing is known of: empty TLB, untouched pages. */
static void forget(struct soft_side *side)
{
	for (unsigned i = 0; i < ALL_PAGES; i++)
		map_page(side, i);
	tlb_flush(side->vcpu, true);
}

void soft_side_run(struct soft_side *side, const struct sequence *sequence, bool warm,
		   struct outcome *outcome)
{
	for (unsigned i = 0; i < DATA_PAGES; i++)
		memcpy(frame_at(side, page_frame(CODE_PAGES + i)), sequence->memory[i], PAGE_SIZE);
	write_code(side, sequence);
	if (!warm)
		forget(side);
	set_mode(side->vcpu, sequence);
	set_registers(side, &sequence->initial);
	run(side, SEQUENCE_NS);
	if (side->vector >= 0)
		read_outcome(side, outcome);
	else
		outcome->vector = END_ENDLESS;
	for (unsigned i = 0; i < DATA_PAGES; i++)
		memcpy(outcome->memory[i], frame_at(side, page_frame(CODE_PAGES + i)), PAGE_SIZE);
}

void soft_side_garbage(const struct sequence *sequence, const u8 *bytes)
{
	struct soft_side *side = side_new(true, 0);

	for (unsigned i = 0; i < CODE_PAGES; i++)
		memcpy(frame_at(side, page_frame(i)), bytes + i * PAGE_SIZE, PAGE_SIZE);
	for (unsigned i = 0; i < DATA_PAGES; i++)
		memcpy(frame_at(side, page_frame(CODE_PAGES + i)), sequence->memory[i], PAGE_SIZE);
	side->vcpu->xcr0 = side->vcpu->soft->cpuid.xsave.components;
	vcpu_update_mode(side->vcpu);
	set_registers(side, &sequence->initial);
	side->vcpu->ctx.rip = CODE_BASE;
	run(side, GARBAGE_NS);
	side_free(side);
}
