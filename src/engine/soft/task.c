/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hardware tasks: all registers go into one segment in memory and come out of
 * another, by one far jump, call, return or interrupt. The 80286 was proud of it, no
 * kernel of today uses it but one: Linux on i386 takes its double faults through a
 * task gate, because whatever has become of its stack, here comes another.
 *
 * So it has to be right, and need not be fast. A switch has two halves, with a
 * difference to segment.c: the second, in which the new task's selectors are
 * looked up, can still fail. Then it is the new task that has the fault, before
 * its first instruction.
 *
 * Who may switch is asked by those who call: segment.c, return.c, interrupt.c.
 * IA-32e mode has no tasks.
 *
 * Tour 6.940: Hardware tasks
 */
#include "engine/soft/segment.h"

#include <asm/debugreg.h>
#include <stddef.h>
#include <string.h>

/* Intel SDM 3A, "32-Bit Task-State Segment": names as there, `unused` where a selector has a half.
 */
struct tss_32 {
	u16 link, unused;
	u32 stacks[6], cr3;
	u32 eip, eflags;
	u32 gpr[8];
	struct {
		u16 selector, unused;
	} segment[6], ldt;
	u16 trap, iomap;
} __attribute__((packed));

/* Intel SDM 3A, "16-Bit TSS". */
struct tss_16 {
	u16 link, stacks[6];
	u16 ip, flags;
	u16 gpr[8];
	u16 segment[4], ldt;
} __attribute__((packed));

_Static_assert(sizeof(struct tss_32) == 0x68 && sizeof(struct tss_16) == 0x2c, "as in the manual");

/* What a switch saves: from the instruction pointer to the last segment register. */
#define SAVED_32      offsetof(struct tss_32, eip)
#define SAVED_32_SIZE (offsetof(struct tss_32, ldt) - SAVED_32)
#define SAVED_16      offsetof(struct tss_16, ip)
#define SAVED_16_SIZE (offsetof(struct tss_16, ldt) - SAVED_16)

/* Of a descriptor: the byte with its type. */
#define ACCESS_BYTE 5u

#define TSS_TRAP	  1u	 /* in struct tss_32: #DB before its first instruction */
#define DR7_LOCAL_ENABLES 0x155u /* L0 to L3, LE */

/* The new task, as its segment has it. */
struct task {
	struct descriptor tss;
	bool is_32;
	struct tss_32 state;
};

static bool is_32(const struct segment *tss)
{
	return tss->type == SYSTEM_TSS || tss->type == SYSTEM_TSS_BUSY;
}

static bool is_busy(const struct segment *tss)
{
	return tss->type & SYSTEM_BUSY;
}

static bool is_task(const struct segment *segment)
{
	unsigned type = segment->type & ~SYSTEM_BUSY;

	return !segment->s && (type == SYSTEM_TSS || type == SYSTEM_TSS_16);
}

/* ------------------------------------------------------------------ checks */

/* One goes back to a task that waits for it, and forth to one that does not run. */
static bool find_task(struct vcpu *vcpu, u16 selector, const struct task_switch *how,
		      struct task *task)
{
	const struct segment *segment = &task->tss.segment;
	enum vector fault = how->why == TASK_RETURN ? VECTOR_TS : VECTOR_GP;
	u32 error = selector_error(selector) | how->external;

	if (selector_is_null(selector) || selector & SELECTOR_LOCAL)
		return raise_error(vcpu, fault, error);
	if (!descriptor_find(vcpu, selector, fault, how->external, &task->tss))
		return false;
	if (!is_task(segment) || is_busy(segment) != (how->why == TASK_RETURN))
		return raise_error(vcpu, fault, error);
	if (!segment->present)
		return raise_error(vcpu, VECTOR_NP, error);
	task->is_32 = is_32(segment);
	if (segment->limit < (task->is_32 ? sizeof(struct tss_32) : sizeof(struct tss_16)) - 1)
		return raise_error(vcpu, VECTOR_TS, error);
	return true;
}

/* Registers of 16 bits leave zeroes above; FS, GS and CR3 are not in the older segment. */
static void widen(const struct tss_16 *from, struct tss_32 *to)
{
	*to = (struct tss_32){.eip = from->ip, .eflags = from->flags, .ldt.selector = from->ldt};
	for (unsigned i = 0; i < ARRAY_SIZE(from->gpr); i++)
		to->gpr[i] = from->gpr[i];
	for (unsigned i = 0; i < ARRAY_SIZE(from->segment); i++)
		to->segment[i].selector = from->segment[i];
}

static bool read_task(struct vcpu *vcpu, struct task *task)
{
	const enum access access = ACCESS_READ | ACCESS_SYSTEM;
	u64 base = task->tss.segment.base;
	struct tss_16 small;

	if (task->is_32)
		return mem_read(vcpu, base, &task->state, sizeof(task->state), access);
	if (!mem_read(vcpu, base, &small, sizeof(small), access))
		return false;
	widen(&small, &task->state);
	return true;
}

/* The current task's descriptor, where it says that it is busy. */
static u64 own_access_byte(const struct vcpu *vcpu)
{
	return system_linear(vcpu,
			     vcpu->gdt.base + (vcpu->tr.selector & SELECTOR_INDEX) + ACCESS_BYTE);
}

static u64 access_byte(const struct vcpu *vcpu, const struct task *task)
{
	return system_linear(vcpu, task->tss.address + ACCESS_BYTE);
}

/*
 * All that is written to before the new task is there: Intel SDM 3A, "Task Switching", wants it in
 * memory before anything changes. What the old task is saved to must be part of its segment.
 */
static bool probe(struct vcpu *vcpu, const struct task *task, const struct task_switch *how)
{
	const enum access access = ACCESS_WRITE | ACCESS_SYSTEM;
	bool wide = is_32(&vcpu->tr);
	unsigned start = wide ? SAVED_32 : SAVED_16;
	unsigned size = wide ? SAVED_32_SIZE : SAVED_16_SIZE;

	if (start + size - 1 > vcpu->tr.limit)
		return raise_error(vcpu, VECTOR_TS,
				   selector_error(vcpu->tr.selector) | how->external);
	return mem_probe(vcpu, system_linear(vcpu, vcpu->tr.base + start), size, access) &&
	       mem_probe(vcpu, own_access_byte(vcpu), 1, access) &&
	       mem_probe(vcpu, access_byte(vcpu, task), 1, access) &&
	       mem_probe(vcpu, task->tss.segment.base, sizeof(u16), access);
}

/* ------------------------------------------------------------------ the old task */

static bool save_32(struct vcpu *vcpu, u32 eflags)
{
	u64 at = system_linear(vcpu, vcpu->tr.base + SAVED_32);
	struct tss_32 image;
	u8 *saved = (u8 *)&image + SAVED_32;

	/* For the halves that are nobody's. */
	if (!mem_read(vcpu, at, saved, SAVED_32_SIZE, ACCESS_READ | ACCESS_SYSTEM))
		return false;
	image.eip = vcpu->ctx.rip;
	image.eflags = eflags;
	for (unsigned i = 0; i < ARRAY_SIZE(image.gpr); i++)
		image.gpr[i] = vcpu->ctx.gpr[i];
	for (unsigned i = 0; i < ARRAY_SIZE(image.segment); i++)
		image.segment[i].selector = vcpu->seg[i].selector;
	return mem_write(vcpu, at, saved, SAVED_32_SIZE, ACCESS_WRITE | ACCESS_SYSTEM);
}

static bool save_16(struct vcpu *vcpu, u16 flags)
{
	struct tss_16 image = {.ip = vcpu->ctx.rip, .flags = flags};

	for (unsigned i = 0; i < ARRAY_SIZE(image.gpr); i++)
		image.gpr[i] = vcpu->ctx.gpr[i];
	for (unsigned i = 0; i < ARRAY_SIZE(image.segment); i++)
		image.segment[i] = vcpu->seg[i].selector;
	return mem_write(vcpu, system_linear(vcpu, vcpu->tr.base + SAVED_16),
			 (u8 *)&image + SAVED_16, SAVED_16_SIZE, ACCESS_WRITE | ACCESS_SYSTEM);
}

static bool set_busy(struct vcpu *vcpu, u64 at, bool busy)
{
	u8 access;

	if (!mem_read(vcpu, at, &access, 1, ACCESS_READ | ACCESS_SYSTEM))
		return false;
	access = busy ? access | SYSTEM_BUSY : access & ~SYSTEM_BUSY;
	return mem_write(vcpu, at, &access, 1, ACCESS_WRITE | ACCESS_SYSTEM);
}

/* It stays busy if the new one is to come back to it, and then the new one knows its name. */
static bool leave(struct vcpu *vcpu, const struct task *next, const struct task_switch *how)
{
	if (!(is_32(&vcpu->tr) ? save_32(vcpu, how->flags) : save_16(vcpu, how->flags)))
		return false;
	if (how->why != TASK_CALL && !set_busy(vcpu, own_access_byte(vcpu), false))
		return false;
	if (how->why == TASK_CALL && !mem_write(vcpu, next->tss.segment.base, &vcpu->tr.selector,
						sizeof(u16), ACCESS_WRITE | ACCESS_SYSTEM))
		return false;
	return how->why == TASK_RETURN || set_busy(vcpu, access_byte(vcpu, next), true);
}

/* ------------------------------------------------------------------ the new task */

/* Registers, and selectors with nothing behind them yet. */
static void load_registers(struct vcpu *vcpu, const struct task *task,
			   const struct task_switch *how)
{
	const struct tss_32 *state = &task->state;
	u32 eflags = state->eflags | (how->why == TASK_CALL ? X86_EFLAGS_NT : 0);

	vcpu->tr = task->tss.segment;
	vcpu->tr.type |= SYSTEM_BUSY;
	vcpu->ldt = (struct segment){.selector = state->ldt.selector};
	vcpu->cr0 |= X86_CR0_TS;
	vcpu->dr[DR_CONTROL] &= ~(u64)DR7_LOCAL_ENABLES;
	debug_update(vcpu);
	for (unsigned i = 0; i < ARRAY_SIZE(state->gpr); i++)
		vcpu->ctx.gpr[i] = state->gpr[i];
	for (unsigned i = 0; i < ARRAY_SIZE(state->segment); i++) {
		const struct segment none = segment_null(state->segment[i].selector, 0);

		if (eflags & X86_EFLAGS_VM)
			segment_set_v86(vcpu, i, state->segment[i].selector);
		else
			vcpu_set_segment(vcpu, i, &none);
	}
	vcpu->cpl = eflags & X86_EFLAGS_VM ? V86_CPL : state->segment[CS].selector & SELECTOR_RPL;
	vcpu->ctx.rip = vcpu->insn_rip = state->eip;
	vcpu_set_rflags(vcpu, eflags);
}

static bool load_ldt(struct vcpu *vcpu, u16 selector, u32 external)
{
	u32 error = selector_error(selector) | external;
	struct descriptor ldt = {0};

	if (selector_is_null(selector))
		return true;
	if (selector & SELECTOR_LOCAL)
		return raise_error(vcpu, VECTOR_TS, error);
	if (!descriptor_find(vcpu, selector, VECTOR_TS, external, &ldt))
		return false;
	if (ldt.segment.s || ldt.segment.type != SYSTEM_LDT || !ldt.segment.present)
		return raise_error(vcpu, VECTOR_TS, error);
	vcpu->ldt = ldt.segment;
	return true;
}

/* In the order of Intel SDM 3A, "Exception Conditions Checked During a Task Switch". */
static bool load_segments(struct vcpu *vcpu, const struct task *task, u32 external)
{
	static const u8 data_registers[] = {DS, ES, FS, GS};
	struct descriptor found = {0};

	if (!segment_check_return(vcpu, vcpu->seg[CS].selector, VECTOR_TS, external, &found) ||
	    !descriptor_mark_accessed(vcpu, &found))
		return false;
	segment_set_code(vcpu, &found.segment, vcpu->cpl);
	if (!segment_check_task_ss(vcpu, vcpu->seg[SS].selector, external, &found) ||
	    !descriptor_mark_accessed(vcpu, &found))
		return false;
	segment_set_found(vcpu, SS, &found);
	for (unsigned i = 0; i < ARRAY_SIZE(data_registers); i++) {
		unsigned which = data_registers[i];
		u16 selector = task->state.segment[which].selector;

		if (!segment_check_data(vcpu, selector, VECTOR_TS, external, &found) ||
		    !descriptor_mark_accessed(vcpu, &found))
			return false;
		segment_set_found(vcpu, which, &found);
	}
	return true;
}

/* As wide as the task is. */
static bool push_error(struct vcpu *vcpu, const struct task *task, const struct task_switch *how)
{
	struct stack stack = stack_current(vcpu, false, how->external);
	const u64 error = how->error;

	if (!stack_push(vcpu, &stack, &error, 1, task->is_32 ? sizeof(u32) : sizeof(u16)))
		return false;
	stack_commit(vcpu, &stack);
	return true;
}

static bool enter(struct vcpu *vcpu, const struct task *task, const struct task_switch *how)
{
	load_registers(vcpu, task, how);
	if (task->is_32 && vcpu->cr0 & X86_CR0_PG && !control_load_cr3(vcpu, task->state.cr3))
		return false;
	if (!load_ldt(vcpu, task->state.ldt.selector, how->external))
		return false;
	if (!(vcpu->sysflags & X86_EFLAGS_VM) && !load_segments(vcpu, task, how->external))
		return false;
	if (how->has_error && !push_error(vcpu, task, how))
		return false;
	if (!segment_holds(vcpu, &vcpu->seg[CS], vcpu->ctx.rip))
		return raise_error(vcpu, VECTOR_GP, how->external);
	return true;
}

bool task_switch(struct vcpu *vcpu, u16 selector, const struct task_switch *how)
{
	struct task next = {0};
	bool entered;

	if (!find_task(vcpu, selector, how, &next) || !probe(vcpu, &next, how) ||
	    !read_task(vcpu, &next) || !leave(vcpu, &next, how))
		return false;
	entered = enter(vcpu, &next, how);
	vcpu_update_mode(vcpu);
	interrupt_recheck(vcpu);
	if (entered && next.state.trap & TSS_TRAP) {
		vcpu->dr[DR_STATUS] |= DR_SWITCH;
		raise_fault(vcpu, VECTOR_DB);
	}
	return entered;
}
