/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segments: everything that loads a segment register from a descriptor, and so
 * most ways to another privilege level: far jumps, calls and returns, iret. Not
 * the shortcuts that look at no table (syscall.c), nor the way in through a gate of
 * the IDT (interrupt.c). Translated code calls the handlers, one instruction at a
 * time.
 *
 * Every handler has two halves. The first reads all that it needs and makes all
 * the checks, in the order in which the manual has them, because the guest can
 * tell which one came first. The second changes the state, and cannot fail. The
 * only trace that a failed attempt may leave is an accessed bit.
 *
 * What is not here: tasks. Task gates and task-state segments as targets give
 * #GP, and there is no virtual-8086 mode. Nobody who boots on this machine has
 * asked for either since the nineties.
 */
#include "engine/soft/segment.h"

/* Call gates count up to 31 parameters, and there are four words around them. */
#define CALL_GATE_PARAMETERS 31u
#define CALL_GATE_WORDS	     (CALL_GATE_PARAMETERS + 4u)

/* The stack of push, pop and near everything. */
static struct stack stack_here(const struct vcpu *vcpu)
{
	return stack_current(vcpu, vcpu_64bit(vcpu), 0);
}

/* ------------------------------------------------------------------ data segments */

/*
 * Intel SDM 2, "MOV", where it says "IF SS is loaded", and "RET" and "IRET": the same for code at
 * the level that they return to.
 */
static bool check_ss(struct vcpu *vcpu, u16 selector, unsigned cpl, bool to_64,
		     struct descriptor *ss)
{
	if (selector_is_null(selector)) {
		if (!to_64 || cpl == 3 || (selector & SELECTOR_RPL) != cpl)
			return raise_error(vcpu, VECTOR_GP, 0);
		*ss = (struct descriptor){.segment = segment_null(selector, cpl)};
		return true;
	}
	if (!descriptor_find(vcpu, selector, VECTOR_GP, 0, ss))
		return false;
	if (!segment_is_stack(&ss->segment, selector, cpl))
		return raise_error(vcpu, VECTOR_GP, selector_error(selector));
	if (!ss->segment.present)
		return raise_error(vcpu, VECTOR_SS, selector_error(selector));
	return true;
}

/* The same for DS, ES, FS and GS. */
static bool check_data(struct vcpu *vcpu, u16 selector, struct descriptor *data)
{
	const struct segment *segment = &data->segment;
	u32 error = selector_error(selector);

	if (selector_is_null(selector)) {
		*data = (struct descriptor){.segment = segment_null(selector, 0)};
		return true;
	}
	if (!descriptor_find(vcpu, selector, VECTOR_GP, 0, data))
		return false;
	if (!segment->s || (segment_is_code(segment) && !(segment->type & TYPE_READABLE)))
		return raise_error(vcpu, VECTOR_GP, error);
	if (!segment_is_conforming(segment) &&
	    ((selector & SELECTOR_RPL) > segment->dpl || vcpu->cpl > segment->dpl))
		return raise_error(vcpu, VECTOR_GP, error);
	if (!segment->present)
		return raise_error(vcpu, VECTOR_NP, error);
	return true;
}

static void set_segment(struct vcpu *vcpu, unsigned which, const struct descriptor *descriptor)
{
	struct segment segment = descriptor->segment;

	if (descriptor->address)
		segment.type |= TYPE_ACCESSED;
	vcpu_set_segment(vcpu, which, &segment);
}

static bool load(struct vcpu *vcpu, unsigned which, u16 selector)
{
	struct descriptor descriptor = {0};

	if (!system_protected(vcpu)) {
		segment_set_real(vcpu, which, selector);
	} else {
		if (which == SS
			    ? !check_ss(vcpu, selector, vcpu->cpl, vcpu_64bit(vcpu), &descriptor)
			    : !check_data(vcpu, selector, &descriptor))
			return false;
		if (!descriptor_mark_accessed(vcpu, &descriptor))
			return false;
		set_segment(vcpu, which, &descriptor);
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

	if (!stack_push(vcpu, &stack, &selector, 1, insn->opsize))
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
	u64 address = insn_address(vcpu, insn);

	*offset = 0;
	return mem_read(vcpu, address, offset, insn->opsize, ACCESS_READ) &&
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
};

/* What every target has to be, whoever brings us there: code, or perhaps a gate to it. */
static bool check_code(struct vcpu *vcpu, u16 selector, struct descriptor *code)
{
	if (selector_is_null(selector))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!descriptor_find(vcpu, selector, VECTOR_GP, 0, code))
		return false;
	if (code->segment.s && !segment_is_code(&code->segment))
		return raise_error(vcpu, VECTOR_GP, selector_error(selector));
	return true;
}

static bool is_both_sizes(const struct vcpu *vcpu, const struct segment *code)
{
	return vcpu_long_mode(vcpu) && code->l && code->db;
}

/* Intel SDM 2, "JMP": direct, conforming-code-segment and nonconforming-code-segment. */
static bool check_direct(struct vcpu *vcpu, u16 selector, const struct segment *code)
{
	u32 error = selector_error(selector);

	if (is_both_sizes(vcpu, code))
		return raise_error(vcpu, VECTOR_GP, error);
	if (segment_is_conforming(code)
		    ? code->dpl > vcpu->cpl
		    : (selector & SELECTOR_RPL) > vcpu->cpl || code->dpl != vcpu->cpl)
		return raise_error(vcpu, VECTOR_GP, error);
	if (!code->present)
		return raise_error(vcpu, VECTOR_NP, error);
	return true;
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
	if (gate->dpl < vcpu->cpl || (selector & SELECTOR_RPL) > gate->dpl)
		return raise_error(vcpu, VECTOR_GP, error);
	if (!gate->present)
		return raise_error(vcpu, VECTOR_NP, error);
	return true;
}

/* Intel SDM 2, "CALL" and "JMP": call gates. Only a call gets to a more privileged level. */
static bool find_gate_target(struct vcpu *vcpu, struct target *target, bool is_call)
{
	const struct segment *code = &target->code.segment;
	struct gate gate = {0};
	u32 error;

	if (!read_call_gate(vcpu, &target->code, &gate) ||
	    !check_code(vcpu, gate.selector, &target->code))
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
	if (!check_code(vcpu, target->selector, &target->code))
		return false;
	return target->code.segment.s ? check_direct(vcpu, target->selector, &target->code.segment)
				      : find_gate_target(vcpu, target, is_call);
}

static void set_target(struct vcpu *vcpu, const struct target *target)
{
	segment_set_code(vcpu, &target->code.segment, target->cpl);
	vcpu->ctx.rip = target->rip;
}

static bool jump_real(struct vcpu *vcpu, u16 selector, u64 offset)
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
		return jump_real(vcpu, target.selector, target.rip);
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
	return jump_real(vcpu, target->selector, target->rip);
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
	set_segment(vcpu, SS, &stack.ss);
	stack_commit(vcpu, &stack);
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
	return target.cpl < vcpu->cpl ? call_inner(vcpu, &target) : call_same(vcpu, &target);
}

/* ------------------------------------------------------------------ far returns */

/* Intel SDM 2, "RET" and "IRET": what the CS that was popped has to be. */
static bool check_return_code(struct vcpu *vcpu, u16 selector, struct descriptor *code)
{
	const struct segment *segment = &code->segment;
	unsigned rpl = selector & SELECTOR_RPL;
	u32 error = selector_error(selector);

	if (!check_code(vcpu, selector, code))
		return false;
	if (!segment->s || rpl < vcpu->cpl || is_both_sizes(vcpu, segment) ||
	    (segment_is_conforming(segment) ? segment->dpl > rpl : segment->dpl != rpl))
		return raise_error(vcpu, VECTOR_GP, error);
	if (!segment->present)
		return raise_error(vcpu, VECTOR_NP, error);
	return true;
}

/*
 * Going outwards, what the less privileged code could not have loaded is taken from it. Null
 * selectors stay as they are: their bases are the MSRs', and nobody's secret.
 */
static void drop_inner_segments(struct vcpu *vcpu)
{
	static const u8 registers[] = {ES, DS, FS, GS};

	for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
		struct segment *segment = &vcpu->seg[registers[i]];

		if (selector_is_null(segment->selector) || segment_is_conforming(segment) ||
		    segment->dpl >= vcpu->cpl)
			continue;
		segment->selector = 0;
		segment->present = false;
	}
}

/* Everything that a return pops. */
struct frame {
	struct descriptor code, ss;
	unsigned cpl;
	u64 rip;
	bool has_stack; /* rsp and ss are to be loaded */
	u64 rsp;
};

static bool check_return(struct vcpu *vcpu, struct frame *frame)
{
	if (!segment_holds(vcpu, &frame->code.segment, frame->rip))
		return raise_error(vcpu, VECTOR_GP, 0);
	return descriptor_mark_accessed(vcpu, &frame->code) &&
	       (!frame->has_stack || descriptor_mark_accessed(vcpu, &frame->ss));
}

/*
 * A stack segment of 16 bits gets the lower half of its stack pointer only: famous for showing the
 * rest of the kernel's. `stack` is where a frame without a stack leaves us.
 */
static void set_return(struct vcpu *vcpu, const struct frame *frame, const struct stack *stack)
{
	bool outwards = frame->cpl > vcpu->cpl;

	segment_set_code(vcpu, &frame->code.segment, frame->cpl);
	vcpu->ctx.rip = frame->rip;
	if (frame->has_stack) {
		set_segment(vcpu, SS, &frame->ss);
		gpr_write(vcpu, RSP, stack_width(vcpu_64bit(vcpu), &frame->ss.segment), frame->rsp);
	} else {
		stack_commit(vcpu, stack);
	}
	if (outwards)
		drop_inner_segments(vcpu);
}

/* Pop rsp and ss, for the segment in frame->code. */
static bool pop_stack(struct vcpu *vcpu, struct stack *stack, unsigned size, struct frame *frame)
{
	bool to_64 = vcpu_long_mode(vcpu) && frame->code.segment.l;
	u64 words[2];

	if (!stack_pop(vcpu, stack, words, ARRAY_SIZE(words), size) ||
	    !check_ss(vcpu, words[1], frame->cpl, to_64, &frame->ss))
		return false;
	frame->rsp = words[0];
	frame->has_stack = true;
	return true;
}

static u64 skip(const struct stack *stack, u64 pointer, u16 bytes)
{
	return (pointer + bytes) & width_mask(stack->width);
}

static bool ret_real(struct vcpu *vcpu, const struct insn *insn, u16 bytes)
{
	struct stack stack = stack_here(vcpu);
	u64 words[2];

	if (!stack_pop(vcpu, &stack, words, ARRAY_SIZE(words), insn->opsize) ||
	    !jump_real(vcpu, words[1], words[0]))
		return false;
	stack.pointer = skip(&stack, stack.pointer, bytes);
	stack_commit(vcpu, &stack);
	return true;
}

bool segment_ret_far(struct vcpu *vcpu, const struct insn *insn)
{
	const u8 opcode_with_count = 0xca;
	u16 bytes = insn->opcode == opcode_with_count ? insn->immediate : 0;
	struct stack stack = stack_here(vcpu);
	struct frame frame = {0};
	u64 words[2];

	if (!system_protected(vcpu))
		return ret_real(vcpu, insn, bytes);

	if (!stack_pop(vcpu, &stack, words, ARRAY_SIZE(words), insn->opsize) ||
	    !check_return_code(vcpu, words[1], &frame.code))
		return false;
	frame.rip = words[0];
	frame.cpl = words[1] & SELECTOR_RPL;
	stack.pointer = skip(&stack, stack.pointer, bytes);
	if (frame.cpl > vcpu->cpl) {
		if (!pop_stack(vcpu, &stack, insn->opsize, &frame))
			return false;
		frame.rsp += bytes;
	}
	if (!check_return(vcpu, &frame))
		return false;
	set_return(vcpu, &frame, &stack);
	vcpu_update_mode(vcpu);
	return true;
}

/* ------------------------------------------------------------------ iret */

/* Intel SDM 2, "IRET": who may change which flag. VM stays clear. */
static u64 iret_flags(const struct vcpu *vcpu, u64 popped, unsigned size)
{
	u64 old = vcpu_rflags(vcpu);
	u64 change = FLAGS_ARITH | X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_NT;

	if (size > 2)
		change |= X86_EFLAGS_RF | X86_EFLAGS_AC | X86_EFLAGS_ID;
	if (vcpu->cpl <= (old & X86_EFLAGS_IOPL) >> X86_EFLAGS_IOPL_BIT)
		change |= X86_EFLAGS_IF;
	if (vcpu->cpl == 0)
		change |= X86_EFLAGS_IOPL;
	if (vcpu->cpl == 0 && size > 2 && system_protected(vcpu))
		change |= X86_EFLAGS_VIF | X86_EFLAGS_VIP;
	return (old & ~change) | (popped & change);
}

static bool iret_real(struct vcpu *vcpu, unsigned size)
{
	struct stack stack = stack_here(vcpu);
	u64 words[3];

	if (!stack_pop(vcpu, &stack, words, ARRAY_SIZE(words), size) ||
	    !jump_real(vcpu, words[1], words[0]))
		return false;
	stack_commit(vcpu, &stack);
	vcpu_set_rflags(vcpu, iret_flags(vcpu, words[2], size));
	return true;
}

static bool iret_protected(struct vcpu *vcpu, unsigned size)
{
	struct stack stack = stack_here(vcpu);
	struct frame frame = {0};
	u64 words[3], flags;

	/* Outside IA-32e mode this would return to another task. */
	if (vcpu_rflags(vcpu) & X86_EFLAGS_NT)
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!stack_pop(vcpu, &stack, words, ARRAY_SIZE(words), size))
		return false;
	/* And this to virtual-8086 mode. */
	if (!vcpu_long_mode(vcpu) && (words[2] & X86_EFLAGS_VM) && vcpu->cpl == 0)
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!check_return_code(vcpu, words[1], &frame.code))
		return false;
	frame.rip = words[0];
	frame.cpl = words[1] & SELECTOR_RPL;
	if ((vcpu_64bit(vcpu) || frame.cpl > vcpu->cpl) && !pop_stack(vcpu, &stack, size, &frame))
		return false;
	if (!check_return(vcpu, &frame))
		return false;

	flags = iret_flags(vcpu, words[2], size);
	set_return(vcpu, &frame, &stack);
	vcpu_set_rflags(vcpu, flags);
	return true;
}

/* NMIs may come again even if it faults: Intel SDM 3A, "Handling Multiple NMIs". */
bool segment_iret(struct vcpu *vcpu, const struct insn *insn)
{
	bool done;

	vcpu->nmi_blocked = false;
	done = system_protected(vcpu) ? iret_protected(vcpu, insn->opsize)
				      : iret_real(vcpu, insn->opsize);
	interrupt_recheck(vcpu);
	return done;
}
