/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Near calls and returns, PUSH, POP and their like, by C: where the stack is not flat (real
 * mode, stacks of 16 bits, segments with a limit), and what has many words and is rare
 * (ENTER, PUSHA, POPA). All that is common is made by rewrite.c and flow.c instead,
 * in a few host instructions. Far transfers are segment.c's.
 *
 * Handlers, called from translated code; struct stack knows about widths and limits.
 *
 * Tour 6.930: Near calls and pushes, on stacks that are not flat
 */
#include "engine/soft/segment.h"

/* Last bytes of opcodes. */
#define OPCODE_PUSH_REGISTER   0x50
#define OPCODE_POP_REGISTER    0x58
#define OPCODE_PUSH_IMMEDIATE  0x68
#define OPCODE_PUSH_IMMEDIATE8 0x6a
#define OPCODE_CALL_RELATIVE   0xe8
#define OPCODE_LOOPNE	       0xe0
#define OPCODE_LOOPE	       0xe1
#define OPCODE_JCXZ	       0xe3
#define OPCODE_RET_IMMEDIATE   0xc2
#define OPCODE_REGISTER	       7 /* of it, where the opcode names one */
#define PUSHA_WORDS	       8
#define ENTER_LEVELS	       32

static struct stack stack_near(const struct vcpu *vcpu)
{
	return stack_current(vcpu, vcpu_64bit(vcpu), 0);
}

bool near_push(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_near(vcpu);
	unsigned size = insn->opsize;
	u64 value = insn->immediate;

	if (insn->opcode == OPCODE_PUSH_IMMEDIATE || insn->opcode == OPCODE_PUSH_IMMEDIATE8)
		;
	else if ((insn->opcode & ~OPCODE_REGISTER) == OPCODE_PUSH_REGISTER)
		value = gpr_read(vcpu, insn->opcode & OPCODE_REGISTER, size);
	else if (!rm_read(vcpu, insn, size, &value))
		return false;
	if (!stack_push(vcpu, &stack, &value, 1, size))
		return false;
	stack_commit(vcpu, &stack);
	return true;
}

/* An address with the stack pointer in it is that after the pop, but a fault finds it as it was. */
bool near_pop(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_near(vcpu);
	u64 value, pointer = vcpu->ctx.gpr[RSP];

	if (!stack_pop(vcpu, &stack, &value, 1, insn->opsize))
		return false;
	stack_commit(vcpu, &stack);
	if ((insn->opcode & ~OPCODE_REGISTER) == OPCODE_POP_REGISTER) {
		gpr_write(vcpu, insn->opcode & OPCODE_REGISTER, insn->opsize, value);
		return true;
	}
	if (rm_write(vcpu, insn, insn->opsize, value))
		return true;
	vcpu->ctx.gpr[RSP] = pointer;
	return false;
}

bool near_pusha(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_near(vcpu);

	/* One by one: where the stack ends in the middle, the silicon has written so far. */
	for (unsigned i = 0; i < PUSHA_WORDS; i++)
		if (!stack_push(vcpu, &stack, &vcpu->ctx.gpr[i], 1, insn->opsize))
			return false;
	stack_commit(vcpu, &stack);
	return true;
}

bool near_popa(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_near(vcpu);
	u64 value;

	for (unsigned i = PUSHA_WORDS; i-- > 0;) {
		if (!stack_pop(vcpu, &stack, &value, 1, insn->opsize))
			return false;
		if (i != RSP)
			gpr_write(vcpu, i, insn->opsize, value);
	}
	stack_commit(vcpu, &stack);
	return true;
}

bool near_leave(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_near(vcpu);
	u64 value;

	stack.pointer = gpr_read(vcpu, RBP, stack.width);
	if (!stack_pop(vcpu, &stack, &value, 1, insn->opsize))
		return false;
	gpr_write(vcpu, RBP, insn->opsize, value);
	stack_commit(vcpu, &stack);
	return true;
}

/* The frames around this one, from where rbp says that they are to where rsp is. */
static bool copy_frames(struct vcpu *vcpu, struct stack *stack, unsigned count, unsigned size)
{
	struct stack frames = *stack;
	u64 value, pointer = gpr_read(vcpu, RBP, stack->width);

	while (count--) {
		pointer = (pointer - size) & width_mask(stack->width);
		frames.pointer = pointer;
		if (!stack_pop(vcpu, &frames, &value, 1, size) ||
		    !stack_push(vcpu, stack, &value, 1, size))
			return false;
	}
	return true;
}

/* Frames inside frames have not been seen in the wild, but they are easy. */
bool stack_enter(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned size = insn->opsize, level = insn->immediate2 % ENTER_LEVELS;
	struct stack stack = stack_near(vcpu);
	u64 frame, address;

	if (!stack_push(vcpu, &stack, &vcpu->ctx.gpr[RBP], 1, size))
		return false;
	frame = (vcpu->ctx.gpr[RSP] & ~width_mask(stack.width)) | stack.pointer;
	if (level && (!copy_frames(vcpu, &stack, level - 1, size) ||
		      !stack_push(vcpu, &stack, &frame, 1, size)))
		return false;
	stack.pointer = (stack.pointer - (u16)insn->immediate) & width_mask(stack.width);
	/* The new stack must be there for a write, though nothing is written. */
	if (!segment_access(vcpu, SS, stack.pointer, 1, ACCESS_WRITE, &address) ||
	    !mem_probe(vcpu, address, 1, ACCESS_WRITE)) {
		raised_through_stack(vcpu);
		return false;
	}
	gpr_write(vcpu, RBP, size, frame);
	stack_commit(vcpu, &stack);
	return true;
}

/* Where a near jump goes, less what the operand size takes away. False: beyond the limit. */
static bool near_jump(struct vcpu *vcpu, u64 target, unsigned size)
{
	target &= width_mask(size);
	if (!segment_holds(vcpu, &vcpu->seg[CS], target))
		return raise_error(vcpu, VECTOR_GP, 0);
	vcpu->ctx.rip = target;
	return true;
}

/* What was pushed is there even if the target is beyond the limit, and rsp has not moved. */
bool near_call(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_near(vcpu);
	u64 target = vcpu->ctx.rip + insn->immediate;

	if (insn->opcode != OPCODE_CALL_RELATIVE && !rm_read(vcpu, insn, insn->opsize, &target))
		return false;
	if (!stack_push(vcpu, &stack, &vcpu->ctx.rip, 1, insn->opsize) ||
	    !near_jump(vcpu, target, insn->opsize))
		return false;
	stack_commit(vcpu, &stack);
	return true;
}

/* LOOP, LOOPE, LOOPNE, and JCXZ, which does not count. */
bool near_loop(struct vcpu *vcpu, const struct insn *insn)
{
	u64 count = gpr_read(vcpu, RCX, insn->addrsize);
	bool equal = vcpu->ctx.arith & X86_EFLAGS_ZF, taken;

	if (insn->opcode != OPCODE_JCXZ)
		count = (count - 1) & width_mask(insn->addrsize);
	taken = insn->opcode == OPCODE_JCXZ ? !count : count;
	if ((insn->opcode == OPCODE_LOOPE && !equal) || (insn->opcode == OPCODE_LOOPNE && equal))
		taken = false;
	if (taken && !near_jump(vcpu, vcpu->ctx.rip + insn->immediate, insn->opsize))
		return false;
	if (insn->opcode != OPCODE_JCXZ)
		gpr_write(vcpu, RCX, insn->addrsize, count);
	return true;
}

bool near_ret(struct vcpu *vcpu, const struct insn *insn)
{
	u16 more = insn->opcode == OPCODE_RET_IMMEDIATE ? insn->immediate : 0;
	struct stack stack = stack_near(vcpu);
	u64 target;

	if (!stack_pop(vcpu, &stack, &target, 1, insn->opsize))
		return false;
	if (!near_jump(vcpu, target, insn->opsize))
		return false;
	stack.pointer = (stack.pointer + more) & width_mask(stack.width);
	stack_commit(vcpu, &stack);
	return true;
}
