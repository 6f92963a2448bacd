/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tables say, and the stacks: the parts that far transfers (segment.c,
 * syscall.c) and interrupts (interrupt.c) are made of. Nothing here changes the
 * vCPU before the caller says so: descriptors are found and decoded, frames pushed
 * and popped through a struct stack, and the caller commits when no check is
 * left that could fail.
 *
 * The system instructions that look into the same tables are in tables.c.
 *
 * Tour 6.510
 */
#include "engine/soft/segment.h"

/* Task-state segments: Intel SDM 3A, "32-Bit Task-State Segment", "16-Bit TSS", "64-bit TSS". */
#define TSS_16_SP0 2u
#define TSS_32_SP0 4u
#define TSS_64_SP0 4u
#define TSS_64_IST 0x1cu /* of number 0, which does not exist */

/* The longest frame of 64-bit mode: an interrupt's, with an error code. */
#define STACK_WORDS_64 6

static struct segment descriptor_decode(u64 raw, u16 selector)
{
	struct segment segment = {
		.base = (raw >> 16 & 0xffffff) | (raw >> 56) << 24,
		.limit = (raw & 0xffff) | (raw >> 32 & 0xf0000),
		.selector = selector,
		.type = raw >> 40 & 15,
		.s = raw >> 44 & 1,
		.dpl = raw >> 45 & 3,
		.present = raw >> 47 & 1,
		.avl = raw >> 52 & 1,
		.l = raw >> 53 & 1,
		.db = raw >> 54 & 1,
		.g = raw >> 55 & 1,
	};

	if (segment.g)
		segment.limit = segment.limit << 12 | 0xfff;
	return segment;
}

bool descriptor_find(struct vcpu *vcpu, u16 selector, enum vector fault, u32 external,
		     struct descriptor *descriptor)
{
	u32 offset = selector & SELECTOR_INDEX;
	u64 base = vcpu->gdt.base;
	u64 limit = vcpu->gdt.limit;

	if (selector & SELECTOR_LOCAL) {
		base = vcpu->ldt.base;
		limit = vcpu->ldt.limit;
	}
	if (offset + sizeof(descriptor->raw) - 1 > limit ||
	    ((selector & SELECTOR_LOCAL) && !vcpu->ldt.present))
		return raise_error(vcpu, fault, selector_error(selector) | external);

	descriptor->address = system_linear(vcpu, base + offset);
	if (!mem_read_u64(vcpu, descriptor->address, &descriptor->raw, ACCESS_READ | ACCESS_SYSTEM))
		return false;
	descriptor->segment = descriptor_decode(descriptor->raw, selector);
	return true;
}

bool descriptor_mark_accessed(struct vcpu *vcpu, const struct descriptor *descriptor)
{
	const unsigned access_byte = 5;
	u8 access = descriptor->raw >> (8 * access_byte);

	if (!descriptor->address || (access & TYPE_ACCESSED))
		return true;
	access |= TYPE_ACCESSED;
	return mem_write(vcpu, descriptor->address + access_byte, &access, sizeof(access),
			 ACCESS_WRITE | ACCESS_SYSTEM);
}

struct gate gate_decode(u64 low, u64 high)
{
	return (struct gate){
		.selector = low >> 16,
		.offset = (low & 0xffff) | (low >> 48) << 16 | high << 32,
		.type = low >> 40 & 15,
		.dpl = low >> 45 & 3,
		.count = low >> 32 & 31,
		.s = low >> 44 & 1,
		.present = low >> 47 & 1,
	};
}

bool segment_holds(const struct vcpu *vcpu, const struct segment *code, u64 rip)
{
	if (vcpu_long_mode(vcpu) && code->l)
		return system_canonical(rip);
	return rip <= code->limit;
}

void segment_set_code(struct vcpu *vcpu, const struct segment *code, unsigned cpl)
{
	struct segment segment = *code;

	segment.selector = (segment.selector & ~SELECTOR_RPL) | cpl;
	segment.type |= TYPE_ACCESSED;
	vcpu_set_segment(vcpu, CS, &segment);
	vcpu->cpl = cpl;
}

/* Limit and attributes stay what they were: that is all there is to "unreal mode". */
void segment_set_real(struct vcpu *vcpu, unsigned which, u16 selector)
{
	struct segment segment = vcpu->seg[which];

	segment.selector = selector;
	segment.base = (u64)selector << 4;
	vcpu_set_segment(vcpu, which, &segment);
}

/* The eight bits of attributes that a segment of virtual-8086 mode has: Intel SDM 3C, "Checks on
 * Guest Segment Registers". */
void segment_set_v86(struct vcpu *vcpu, unsigned which, u16 selector)
{
	const struct segment segment = {
		.selector = selector,
		.base = (u64)selector << 4,
		.limit = V86_LIMIT,
		.type = TYPE_WRITABLE | TYPE_ACCESSED,
		.s = true,
		.present = true,
		.dpl = V86_CPL,
	};

	vcpu_set_segment(vcpu, which, &segment);
}

void segment_set_found(struct vcpu *vcpu, unsigned which, const struct descriptor *descriptor)
{
	struct segment segment = descriptor->segment;

	if (descriptor->address)
		segment.type |= TYPE_ACCESSED;
	vcpu_set_segment(vcpu, which, &segment);
}

/* ------------------------------------------------------------------ what may be loaded */

/*
 * Data that may be written, at that level. `fault` is what it is when it is not: #TS if a
 * task-state segment is to blame. Intel SDM 2, "CALL", more privilege, and 3A, "Task Switching".
 */
static bool find_ss(struct vcpu *vcpu, u16 selector, unsigned cpl, enum vector fault, u32 external,
		    struct descriptor *ss)
{
	u32 error = selector_error(selector) | external;

	if (selector_is_null(selector))
		return raise_error(vcpu, fault, external);
	if (!descriptor_find(vcpu, selector, fault, external, ss))
		return false;
	if (!segment_is_stack(&ss->segment, selector, cpl))
		return raise_error(vcpu, fault, error);
	if (!ss->segment.present)
		return raise_error(vcpu, VECTOR_SS, error);
	return true;
}

bool segment_check_task_ss(struct vcpu *vcpu, u16 selector, u32 external, struct descriptor *ss)
{
	return find_ss(vcpu, selector, vcpu->cpl, VECTOR_TS, external, ss);
}

/*
 * Intel SDM 2, "MOV", where it says "IF SS is loaded", and "RET" and "IRET": the same for code at
 * the level that they return to.
 */
bool segment_check_ss(struct vcpu *vcpu, u16 selector, unsigned cpl, bool to_64,
		      struct descriptor *ss)
{
	if (selector_is_null(selector) && to_64 && cpl != 3 && (selector & SELECTOR_RPL) == cpl) {
		*ss = (struct descriptor){.segment = segment_null(selector, cpl)};
		return true;
	}
	return find_ss(vcpu, selector, cpl, VECTOR_GP, 0, ss);
}

bool segment_check_data(struct vcpu *vcpu, u16 selector, enum vector fault, u32 external,
			struct descriptor *data)
{
	const struct segment *segment = &data->segment;
	u32 error = selector_error(selector) | external;

	if (selector_is_null(selector)) {
		*data = (struct descriptor){.segment = segment_null(selector, 0)};
		return true;
	}
	if (!descriptor_find(vcpu, selector, fault, external, data))
		return false;
	if (!segment->s || (segment_is_code(segment) && !(segment->type & TYPE_READABLE)))
		return raise_error(vcpu, fault, error);
	if (!segment_is_conforming(segment) &&
	    ((selector & SELECTOR_RPL) > segment->dpl || vcpu->cpl > segment->dpl))
		return raise_error(vcpu, fault, error);
	if (!segment->present)
		return raise_error(vcpu, VECTOR_NP, error);
	return true;
}

bool segment_check_code(struct vcpu *vcpu, u16 selector, enum vector fault, u32 external,
			struct descriptor *code)
{
	if (selector_is_null(selector))
		return raise_error(vcpu, fault, external);
	if (!descriptor_find(vcpu, selector, fault, external, code))
		return false;
	if (code->segment.s && !segment_is_code(&code->segment))
		return raise_error(vcpu, fault, selector_error(selector) | external);
	return true;
}

bool segment_is_both_sizes(const struct vcpu *vcpu, const struct segment *code)
{
	return vcpu_long_mode(vcpu) && code->l && code->db;
}

/* Intel SDM 2, "RET" and "IRET". */
bool segment_check_return(struct vcpu *vcpu, u16 selector, enum vector fault, u32 external,
			  struct descriptor *code)
{
	const struct segment *segment = &code->segment;
	unsigned rpl = selector & SELECTOR_RPL;
	u32 error = selector_error(selector) | external;

	if (!segment_check_code(vcpu, selector, fault, external, code))
		return false;
	if (!segment->s || rpl < vcpu->cpl || segment_is_both_sizes(vcpu, segment) ||
	    (segment_is_conforming(segment) ? segment->dpl > rpl : segment->dpl != rpl))
		return raise_error(vcpu, fault, error);
	if (!segment->present)
		return raise_error(vcpu, VECTOR_NP, error);
	return true;
}

/* ------------------------------------------------------------------ the stack */

unsigned stack_width(bool is_64, const struct segment *ss)
{
	if (is_64)
		return 8;
	return ss->db ? 4 : 2;
}

struct stack stack_current(const struct vcpu *vcpu, bool is_64, u32 external)
{
	struct stack stack = {
		.ss.segment = vcpu->seg[SS],
		.is_64 = is_64,
		.width = stack_width(is_64, &vcpu->seg[SS]),
		.error = external,
	};

	stack.ss.segment.base = vcpu->ctx.base[SS];
	stack.pointer = vcpu->ctx.gpr[RSP] & width_mask(stack.width);
	return stack;
}

struct stack stack_here(const struct vcpu *vcpu)
{
	return stack_current(vcpu, vcpu_64bit(vcpu), 0);
}

/*
 * One level further in, SS is null, with nothing but the level in it: Intel SDM 3A, "Stack
 * Switching in 64-Bit Mode".
 */
struct segment segment_null(u16 selector, unsigned dpl)
{
	return (struct segment){.selector = selector, .dpl = dpl};
}

static bool stack_inner_64(struct vcpu *vcpu, unsigned cpl, unsigned ist, u32 external,
			   struct stack *stack)
{
	u32 offset = ist ? TSS_64_IST + ist * sizeof(u64) : TSS_64_SP0 + cpl * sizeof(u64);

	if (offset + sizeof(u64) - 1 > vcpu->tr.limit)
		return raise_error(vcpu, VECTOR_TS, selector_error(vcpu->tr.selector) | external);
	*stack = (struct stack){
		.ss.segment = cpl == vcpu->cpl ? vcpu->seg[SS] : segment_null(cpl, cpl),
		.is_64 = true,
		.width = 8,
		.access = cpl < vcpu->cpl ? ACCESS_SYSTEM : 0,
		.error = external,
	};
	if (cpl == vcpu->cpl)
		stack->ss.segment.base = vcpu->ctx.base[SS];
	if (!mem_read_u64(vcpu, vcpu->tr.base + offset, &stack->start, ACCESS_READ | ACCESS_SYSTEM))
		return false;
	stack->pointer = stack->start;
	return true;
}

bool stack_inner(struct vcpu *vcpu, unsigned cpl, unsigned ist, u32 external, struct stack *stack)
{
	bool small = vcpu->tr.type == SYSTEM_TSS_16 || vcpu->tr.type == SYSTEM_TSS_16_BUSY;
	unsigned size = small ? 2 : 4;
	u32 offset = small ? TSS_16_SP0 + cpl * 2 * size : TSS_32_SP0 + cpl * 2 * size;
	const enum access access = ACCESS_READ | ACCESS_SYSTEM;
	u16 selector;

	if (vcpu_long_mode(vcpu))
		return stack_inner_64(vcpu, cpl, ist, external, stack);

	if (offset + size + sizeof(selector) - 1 > vcpu->tr.limit)
		return raise_error(vcpu, VECTOR_TS, selector_error(vcpu->tr.selector) | external);
	*stack = (struct stack){.access = ACCESS_SYSTEM};
	if (!mem_read(vcpu, system_linear(vcpu, vcpu->tr.base + offset), &stack->pointer, size,
		      access) ||
	    !mem_read(vcpu, system_linear(vcpu, vcpu->tr.base + offset + size), &selector,
		      sizeof(selector), access) ||
	    !find_ss(vcpu, selector, cpl, VECTOR_TS, external, &stack->ss))
		return false;
	stack->width = stack_width(false, &stack->ss.segment);
	stack->start = stack->pointer;
	stack->pointer &= width_mask(stack->width);
	stack->error = selector_error(selector) | external;
	return true;
}

/* Intel SDM 3A, "Limit Checking"; in 64-bit mode, "Canonical Addressing". */
static bool stack_has_room(const struct stack *stack, u64 at, unsigned size)
{
	const struct segment *ss = &stack->ss.segment;

	if (stack->is_64)
		return system_canonical(at) && system_canonical(at + size - 1);
	return segment_reaches(ss, ss->base, at, size);
}

static u64 stack_address(const struct stack *stack, u64 at)
{
	return stack->is_64 ? at : (u32)(stack->ss.segment.base + at);
}

/* Words of 64 bits never wrap: one write, which checks all of it first. */
static bool push_64(struct vcpu *vcpu, struct stack *stack, const u64 *words, unsigned count)
{
	u64 image[STACK_WORDS_64];
	u64 at = stack->pointer - count * sizeof(*words);

	if (!stack_has_room(stack, at, count * sizeof(*words)))
		return raise_error(vcpu, VECTOR_SS, stack->error);
	for (unsigned i = 0; i < count; i++)
		image[count - 1 - i] = words[i];
	if (!mem_write(vcpu, at, image, count * sizeof(*words), ACCESS_WRITE | stack->access))
		return false;
	stack->pointer = at;
	return true;
}

/* Else word by word, because a stack of 16 bits may wrap between any two. */
bool stack_push(struct vcpu *vcpu, struct stack *stack, const u64 *words, unsigned count,
		unsigned size)
{
	enum access access = ACCESS_WRITE | stack->access;
	u64 mask = width_mask(stack->width);
	u64 at = stack->pointer;

	if (stack->is_64 && size == sizeof(*words) && count <= STACK_WORDS_64)
		return push_64(vcpu, stack, words, count);

	for (unsigned i = 0; i < count; i++) {
		at = (at - size) & mask;
		if (!stack_has_room(stack, at, size))
			return raise_error(vcpu, VECTOR_SS, stack->error);
		if (!mem_probe(vcpu, stack_address(stack, at), size, access))
			return false;
	}
	for (unsigned i = 0; i < count; i++) {
		stack->pointer = (stack->pointer - size) & mask;
		if (!mem_write(vcpu, stack_address(stack, stack->pointer), &words[i], size, access))
			return false;
	}
	return true;
}

bool stack_pop(struct vcpu *vcpu, struct stack *stack, u64 *words, unsigned count, unsigned size)
{
	enum access access = ACCESS_READ | stack->access;
	u64 mask = width_mask(stack->width);

	for (unsigned i = 0; i < count; i++) {
		words[i] = 0;
		if (!stack_has_room(stack, stack->pointer, size))
			return raise_error(vcpu, VECTOR_SS, stack->error);
		if (!mem_read(vcpu, stack_address(stack, stack->pointer), &words[i], size, access))
			return false;
		stack->pointer = (stack->pointer + size) & mask;
	}
	return true;
}

void stack_commit(struct vcpu *vcpu, const struct stack *stack)
{
	gpr_write(vcpu, RSP, stack->width, stack->pointer);
}

/* Where the stack is one of 16 bits, the upper half of ESP is what the task-state segment had. */
void stack_switch(struct vcpu *vcpu, const struct stack *stack)
{
	segment_set_found(vcpu, SS, &stack->ss);
	vcpu->ctx.gpr[RSP] = stack->start;
	stack_commit(vcpu, stack);
}
