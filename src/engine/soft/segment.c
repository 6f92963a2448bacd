/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segments: the instructions that load a segment register from a descriptor, and
 * the far jumps and calls, which lead to other code and perhaps further in. The
 * ways back out are in return.c, the shortcuts that look at no table in syscall.c,
 * and the way in through a gate of the IDT in interrupt.c. Translated code calls
 * the handlers, one instruction at a time.
 *
 * Every handler has two halves. The first reads all that it needs and makes all
 * the checks, in the order in which the manual has them, because the guest can
 * tell which one came first. The second changes the state, and cannot fail. The
 * only trace that a failed attempt may leave is an accessed bit. The exception is
 * a target that is a task, which is a world of its own: task.c.
 *
 * Tour 6.900: Far away: segments
 */
#include "engine/soft/segment.h"

/* Call gates count up to 31 parameters, and there are four words around them. */
#define CALL_GATE_PARAMETERS 31u
#define CALL_GATE_WORDS	     (CALL_GATE_PARAMETERS + 4u)

/* ------------------------------------------------------------------ data segments */

static bool load(struct vcpu *vcpu, unsigned which, u16 selector)
{
	struct descriptor descriptor = {0};

	if (!system_protected(vcpu)) {
		segment_set_real(vcpu, which, selector);
	} else {
		if (which == SS ? !segment_check_ss(vcpu, selector, vcpu->cpl, vcpu_64bit(vcpu),
						    &descriptor)
				: !segment_check_data(vcpu, selector, VECTOR_GP, 0, &descriptor))
			return false;
		if (!descriptor_mark_accessed(vcpu, &descriptor))
			return false;
		segment_set_found(vcpu, which, &descriptor);
	}
	vcpu_update_mode(vcpu);
	return true;
}

bool segment_mov_to(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned which = insn->reg & 7;
	u64 selector;

	if (which == CS || which > GS)
		return raise_fault(vcpu, VECTOR_UD);
	if (!rm_read(vcpu, insn, sizeof(u16), &selector) || !load(vcpu, which, selector))
		return false;
	if (which == SS)
		vcpu->shadow = SHADOW_SS;
	return true;
}

/* Memory takes the 16 bits that there are, a register the operand size with zeroes above. */
bool segment_mov_from(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned which = insn->reg & 7;

	if (which > GS)
		return raise_fault(vcpu, VECTOR_UD);
	return rm_write(vcpu, insn, insn->has_memory ? sizeof(u16) : insn->opsize,
			vcpu->seg[which].selector);
}

/* 06 0E 16 1E, 0F A0, 0F A8, and one more for pop: the number has always been in the same bits. */
static unsigned segment_in_opcode(const struct insn *insn)
{
	return insn->opcode >> 3 & 7;
}

bool segment_push(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_here(vcpu);
	u64 selector = vcpu->seg[segment_in_opcode(insn)].selector;
	unsigned size = insn->opsize;

	/* Of a word of 32 bits the upper half stays as it was: Intel SDM 2, "PUSH". */
	if (size == sizeof(u32)) {
		size = sizeof(u16);
		stack.pointer = (stack.pointer - size) & width_mask(stack.width);
	}
	if (!stack_push(vcpu, &stack, &selector, 1, size))
		return false;
	stack_commit(vcpu, &stack);
	return true;
}

bool segment_pop(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned which = segment_in_opcode(insn);
	struct stack stack = stack_here(vcpu);
	u64 selector;

	if (!stack_pop(vcpu, &stack, &selector, 1, insn->opsize) || !load(vcpu, which, selector))
		return false;
	stack_commit(vcpu, &stack);
	if (which == SS)
		vcpu->shadow = SHADOW_SS;
	return true;
}

/* A far pointer in memory: the offset, and then the selector. */
static bool read_far_pointer(struct vcpu *vcpu, const struct insn *insn, u64 *offset, u16 *selector)
{
	u64 address;

	*offset = 0;
	return insn_access(vcpu, insn, 0, insn->opsize + sizeof(*selector), ACCESS_READ,
			   &address) &&
	       mem_read(vcpu, address, offset, insn->opsize, ACCESS_READ) &&
	       mem_read(vcpu, address + insn->opsize, selector, sizeof(*selector), ACCESS_READ);
}

bool segment_load_far(struct vcpu *vcpu, const struct insn *insn)
{
	enum { LSS = 0xb2, LFS = 0xb4, LGS = 0xb5, LES = 0xc4, LDS = 0xc5 };
	u64 offset;
	u16 selector;
	unsigned which;

	switch (insn->opcode) {
	case LSS:
		which = SS;
		break;
	case LFS:
		which = FS;
		break;
	case LGS:
		which = GS;
		break;
	case LES:
		which = ES;
		break;
	default:
		which = DS;
	}
	if (!insn->has_memory)
		return raise_fault(vcpu, VECTOR_UD);
	if (!read_far_pointer(vcpu, insn, &offset, &selector) || !load(vcpu, which, selector))
		return false;
	gpr_write(vcpu, insn->reg, insn->opsize, offset);
	return true;
}

/* ------------------------------------------------------------------ far jumps and calls */

/* Where a far transfer goes. */
struct target {
	struct descriptor code;
	unsigned cpl;
	u16 selector; /* as the instruction has it: perhaps a gate's */
	u64 rip;
	unsigned size;	     /* of the words that a call pushes */
	unsigned parameters; /* that a call gate copies to the inner stack */
	bool is_task;	     /* `task` is a task-state segment, and nothing else counts */
	u16 task;
};

/* Intel SDM 2, "JMP": direct, conforming-code-segment and nonconforming-code-segment. */
static bool check_direct(struct vcpu *vcpu, u16 selector, const struct segment *code)
{
	u32 error = selector_error(selector);

	if (segment_is_both_sizes(vcpu, code))
		return raise_error(vcpu, VECTOR_GP, error);
	if (segment_is_conforming(code)
		    ? code->dpl > vcpu->cpl
		    : (selector & SELECTOR_RPL) > vcpu->cpl || code->dpl != vcpu->cpl)
		return raise_error(vcpu, VECTOR_GP, error);
	if (!code->present)
		return raise_error(vcpu, VECTOR_NP, error);
	return true;
}

/* May it be reached from here, and is it there? That goes for task gates and for what they name. */
static bool check_system_target(struct vcpu *vcpu, u16 selector, unsigned dpl, bool present)
{
	u32 error = selector_error(selector);

	if (dpl < vcpu->cpl || (selector & SELECTOR_RPL) > dpl)
		return raise_error(vcpu, VECTOR_GP, error);
	return present || raise_error(vcpu, VECTOR_NP, error);
}

/*
 * The gate that a far pointer names. In IA-32e mode they are twice as long, and the second half
 * must not look like a descriptor of its own.
 */
static bool read_call_gate(struct vcpu *vcpu, const struct descriptor *descriptor,
			   struct gate *gate)
{
	const u64 type_field = 0x1full << 40;
	u16 selector = descriptor->segment.selector;
	u32 error = selector_error(selector);
	struct descriptor high = {0};
	unsigned type = descriptor->segment.type;

	if (type != SYSTEM_CALL_GATE && (type != SYSTEM_CALL_GATE_16 || vcpu_long_mode(vcpu)))
		return raise_error(vcpu, VECTOR_GP, error);
	if (vcpu_long_mode(vcpu)) {
		/* The table must reach that far; the error code names the first half. */
		if ((selector & SELECTOR_INDEX) == SELECTOR_INDEX)
			return raise_error(vcpu, VECTOR_GP, error);
		if (!descriptor_find(vcpu, selector + sizeof(high.raw), VECTOR_GP, 0, &high)) {
			if (vcpu->exception.vector == VECTOR_GP)
				vcpu->exception.error = error;
			return false;
		}
		if (high.raw & type_field)
			return raise_error(vcpu, VECTOR_GP, error);
	}
	*gate = gate_decode(descriptor->raw, high.raw);
	return check_system_target(vcpu, selector, gate->dpl, gate->present);
}

/* Intel SDM 2, "CALL" and "JMP": call gates. Only a call gets to a more privileged level. */
static bool find_gate_target(struct vcpu *vcpu, struct target *target, bool is_call)
{
	const struct segment *code = &target->code.segment;
	struct gate gate = {0};
	u32 error;

	if (!read_call_gate(vcpu, &target->code, &gate) ||
	    !segment_check_code(vcpu, gate.selector, VECTOR_GP, 0, &target->code))
		return false;
	error = selector_error(gate.selector);
	if (!code->s || code->dpl > vcpu->cpl ||
	    (!is_call && !segment_is_conforming(code) && code->dpl != vcpu->cpl) ||
	    (vcpu_long_mode(vcpu) && (!code->l || code->db)))
		return raise_error(vcpu, VECTOR_GP, error);
	if (!code->present)
		return raise_error(vcpu, VECTOR_NP, error);

	target->cpl = segment_is_conforming(code) ? vcpu->cpl : code->dpl;
	if (vcpu_long_mode(vcpu))
		target->size = 8;
	else
		target->size = gate.type == SYSTEM_CALL_GATE ? 4 : 2;
	target->rip = target->size == 2 ? gate.offset & UINT16_MAX : gate.offset;
	target->parameters = target->size == 8 ? 0 : gate.count;
	return true;
}

/* Intel SDM 2, "CALL" and "JMP": what is neither code nor data. IA-32e mode knows no tasks. */
static bool find_system_target(struct vcpu *vcpu, struct target *target, bool is_call)
{
	const struct segment *segment = &target->code.segment;
	struct gate gate;

	target->is_task = !vcpu_long_mode(vcpu);
	target->task = target->selector;
	switch (segment->type) {
	case SYSTEM_TASK_GATE:
		gate = gate_decode(target->code.raw, 0);
		target->task = gate.selector;
		break;
	case SYSTEM_TSS:
	case SYSTEM_TSS_16:
		break;
	default:
		target->is_task = false;
	}
	if (!target->is_task)
		return find_gate_target(vcpu, target, is_call);
	return check_system_target(vcpu, target->selector, segment->dpl, segment->present);
}

/* What the operand says, in memory or in the instruction; outside real mode, where that leads. */
static bool find_target(struct vcpu *vcpu, const struct insn *insn, bool is_call,
			struct target *target)
{
	*target = (struct target){
		.cpl = vcpu->cpl,
		.selector = insn->immediate2,
		.rip = insn->immediate & width_mask(insn->opsize),
		.size = insn->opsize,
	};
	if (insn->has_memory && !read_far_pointer(vcpu, insn, &target->rip, &target->selector))
		return false;
	if (!system_protected(vcpu))
		return true;
	if (!segment_check_code(vcpu, target->selector, VECTOR_GP, 0, &target->code))
		return false;
	return target->code.segment.s ? check_direct(vcpu, target->selector, &target->code.segment)
				      : find_system_target(vcpu, target, is_call);
}

static bool switch_task(struct vcpu *vcpu, const struct target *target, enum task_reason why)
{
	const struct task_switch how = {.why = why, .flags = vcpu_rflags(vcpu)};

	return task_switch(vcpu, target->task, &how);
}

static void set_target(struct vcpu *vcpu, const struct target *target)
{
	segment_set_code(vcpu, &target->code.segment, target->cpl);
	vcpu->ctx.rip = target->rip;
}

bool segment_jump_real(struct vcpu *vcpu, u16 selector, u64 offset)
{
	if (offset > vcpu->seg[CS].limit)
		return raise_error(vcpu, VECTOR_GP, 0);
	segment_set_real(vcpu, CS, selector);
	vcpu->ctx.rip = offset;
	vcpu_update_mode(vcpu);
	return true;
}

bool segment_jmp_far(struct vcpu *vcpu, const struct insn *insn)
{
	struct target target;

	if (!find_target(vcpu, insn, false, &target))
		return false;
	if (!system_protected(vcpu))
		return segment_jump_real(vcpu, target.selector, target.rip);
	if (target.is_task)
		return switch_task(vcpu, &target, TASK_JUMP);
	if (!segment_holds(vcpu, &target.code.segment, target.rip))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!descriptor_mark_accessed(vcpu, &target.code))
		return false;
	set_target(vcpu, &target);
	vcpu_update_mode(vcpu);
	return true;
}

static bool call_real(struct vcpu *vcpu, const struct target *target)
{
	struct stack stack = stack_here(vcpu);
	const u64 words[] = {vcpu->seg[CS].selector, vcpu->ctx.rip};

	if (target->rip > vcpu->seg[CS].limit)
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!stack_push(vcpu, &stack, words, ARRAY_SIZE(words), target->size))
		return false;
	stack_commit(vcpu, &stack);
	return segment_jump_real(vcpu, target->selector, target->rip);
}

/* To a more privileged level: the old stack goes onto the new one, and parameters are copied. */
static bool call_inner(struct vcpu *vcpu, const struct target *target)
{
	u64 words[CALL_GATE_WORDS];
	u64 parameters[CALL_GATE_PARAMETERS];
	struct stack outer = stack_here(vcpu);
	struct stack stack;
	unsigned count = 0;

	if (!stack_inner(vcpu, target->cpl, 0, 0, &stack))
		return false;
	if (!segment_holds(vcpu, &target->code.segment, target->rip))
		return raise_error(vcpu, VECTOR_GP, 0);
	words[count++] = vcpu->seg[SS].selector;
	words[count++] = vcpu->ctx.gpr[RSP];
	if (!stack_pop(vcpu, &outer, parameters, target->parameters, target->size))
		return false;
	for (unsigned i = target->parameters; i; i--)
		words[count++] = parameters[i - 1];
	words[count++] = vcpu->seg[CS].selector;
	words[count++] = vcpu->ctx.rip;
	if (!descriptor_mark_accessed(vcpu, &target->code) ||
	    !descriptor_mark_accessed(vcpu, &stack.ss) ||
	    !stack_push(vcpu, &stack, words, count, target->size))
		return false;

	set_target(vcpu, target);
	stack_switch(vcpu, &stack);
	vcpu_update_mode(vcpu);
	return true;
}

/* In IA-32e mode a gate leads to 64-bit mode, and pushes as that does. */
static bool call_same(struct vcpu *vcpu, const struct target *target)
{
	const u64 words[] = {vcpu->seg[CS].selector, vcpu->ctx.rip};
	struct stack stack = target->size == 8 ? stack_current(vcpu, true, 0) : stack_here(vcpu);

	if (!segment_holds(vcpu, &target->code.segment, target->rip))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!descriptor_mark_accessed(vcpu, &target->code) ||
	    !stack_push(vcpu, &stack, words, ARRAY_SIZE(words), target->size))
		return false;
	set_target(vcpu, target);
	stack_commit(vcpu, &stack);
	vcpu_update_mode(vcpu);
	return true;
}

bool segment_call_far(struct vcpu *vcpu, const struct insn *insn)
{
	struct target target;

	if (!find_target(vcpu, insn, true, &target))
		return false;
	if (!system_protected(vcpu))
		return call_real(vcpu, &target);
	if (target.is_task)
		return switch_task(vcpu, &target, TASK_CALL);
	return target.cpl < vcpu->cpl ? call_inner(vcpu, &target) : call_same(vcpu, &target);
}
