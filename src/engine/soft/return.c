/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ways back: far returns and IRET, to code of the same level or further out,
 * to virtual-8086 mode, and to the task that this one was called by. As in
 * segment.c, whose other half this is, all is read and checked before anything
 * changes. Translated code calls the handlers.
 *
 * Tour 6.910: And back from there
 */
#include "engine/soft/segment.h"

/* ------------------------------------------------------------------ far returns */

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
		segment_set_found(vcpu, SS, &frame->ss);
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
	    !segment_check_ss(vcpu, words[1], frame->cpl, to_64, &frame->ss))
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
	    !segment_jump_real(vcpu, words[1], words[0]))
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
	    !segment_check_return(vcpu, words[1], VECTOR_GP, 0, &frame.code))
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
	    !segment_jump_real(vcpu, words[1], words[0]))
		return false;
	stack_commit(vcpu, &stack);
	vcpu_set_rflags(vcpu, iret_flags(vcpu, words[2], size));
	return true;
}

/*
 * Intel SDM 2, "IRET", RETURN-TO-VIRTUAL-8086-MODE. There is nothing to check in a selector of
 * that mode.
 */
static bool return_to_v86(struct vcpu *vcpu, struct stack *stack, const u64 *words)
{
	static const u8 registers[] = {SS, ES, DS, FS, GS};
	u64 rest[1 + ARRAY_SIZE(registers)];

	if (!stack_pop(vcpu, stack, rest, ARRAY_SIZE(rest), sizeof(u32)))
		return false;
	if (words[0] > V86_LIMIT)
		return raise_error(vcpu, VECTOR_GP, 0);
	segment_set_v86(vcpu, CS, words[1]);
	for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
		segment_set_v86(vcpu, registers[i], rest[1 + i]);
	vcpu->cpl = V86_CPL;
	vcpu->ctx.rip = words[0];
	gpr_write(vcpu, RSP, sizeof(u32), rest[0]);
	vcpu_set_rflags(vcpu, words[2]);
	return true;
}

/* To the task that called this one: Intel SDM 2, "IRET", TASK-RETURN. */
static bool task_return(struct vcpu *vcpu)
{
	const struct task_switch how = {
		.why = TASK_RETURN,
		.flags = vcpu_rflags(vcpu) & ~X86_EFLAGS_NT,
	};
	u16 link;

	/* It is the first word of each kind of task-state segment. */
	if (!mem_read(vcpu, vcpu->tr.base, &link, sizeof(link), ACCESS_READ | ACCESS_SYSTEM))
		return false;
	return task_switch(vcpu, link, &how);
}

static bool iret_protected(struct vcpu *vcpu, unsigned size)
{
	struct stack stack = stack_here(vcpu);
	struct frame frame = {0};
	u64 words[3], flags;

	if (vcpu_rflags(vcpu) & X86_EFLAGS_NT)
		return vcpu_long_mode(vcpu) ? raise_error(vcpu, VECTOR_GP, 0) : task_return(vcpu);
	if (!stack_pop(vcpu, &stack, words, ARRAY_SIZE(words), size))
		return false;
	if (!vcpu_long_mode(vcpu) && (words[2] & X86_EFLAGS_VM) && vcpu->cpl == 0)
		return return_to_v86(vcpu, &stack, words);
	if (!segment_check_return(vcpu, words[1], VECTOR_GP, 0, &frame.code))
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
	if (vcpu->sysflags & X86_EFLAGS_VM && system_iopl(vcpu) < V86_CPL)
		return raise_error(vcpu, VECTOR_GP, 0);
	done = system_protected(vcpu) ? iret_protected(vcpu, insn->opsize)
				      : iret_real(vcpu, insn->opsize);
	interrupt_recheck(vcpu);
	return done;
}
