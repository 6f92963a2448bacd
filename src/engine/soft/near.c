/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Near calls and returns, PUSH, POP and their like, by C: where the stack is not flat (real
 * mode, stacks of 16 bits, segments with a limit), and what has many words and is rare
 * (ENTER, PUSHA, POPA). All that is common is made by rewrite.c and flow.c instead,
 * in a few host instructions. Far transfers are segment.c's.
 *
 * Handlers, called from translated code; struct stack knows about widths and limits.
 */
#include "engine/soft/segment.h"

/* Last bytes of opcodes. */
#define OPCODE_PUSH_REGISTER   0x50
#define OPCODE_POP_REGISTER    0x58
#define OPCODE_PUSH_IMMEDIATE  0x68
#define OPCODE_PUSH_IMMEDIATE8 0x6a
#define OPCODE_CALL_RELATIVE   0xe8
#define OPCODE_RET_IMMEDIATE   0xc2
#define OPCODE_REGISTER	       7 /* of it, where the opcode names one */
#define PUSHA_WORDS	       8
#define ENTER_LEVELS	       32

static struct stack stack_near(const struct vcpu *vcpu)
{
	return stack_current(vcpu, vcpu_64bit(vcpu), 0);
}

static bool push_word(struct vcpu *vcpu, u64 value, unsigned size)
{
	struct stack stack = stack_near(vcpu);

	if (!stack_push(vcpu, &stack, &value, 1, size))
		return false;
	stack_commit(vcpu, &stack);
	return true;
}

bool near_push(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned size = insn->opsize;
	u64 value = insn->immediate;

	if (insn->opcode == OPCODE_PUSH_IMMEDIATE || insn->opcode == OPCODE_PUSH_IMMEDIATE8)
		;
	else if ((insn->opcode & ~OPCODE_REGISTER) == OPCODE_PUSH_REGISTER)
		value = gpr_read(vcpu, insn->opcode & OPCODE_REGISTER, size);
	else if (!rm_read(vcpu, insn, size, &value))
		return false;
	return push_word(vcpu, value, size);
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
	frame = stack.pointer;
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

bool near_call(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned size = insn->opsize;
	u64 target = vcpu->ctx.rip + insn->immediate;

	if (insn->opcode != OPCODE_CALL_RELATIVE && !rm_read(vcpu, insn, size, &target))
		return false;
	target &= width_mask(size);
	if (!segment_holds(vcpu, &vcpu->seg[CS], target))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!push_word(vcpu, vcpu->ctx.rip, size))
		return false;
	vcpu->ctx.rip = target;
	return true;
}

bool near_ret(struct vcpu *vcpu, const struct insn *insn)
{
	u16 more = insn->opcode == OPCODE_RET_IMMEDIATE ? insn->immediate : 0;
	struct stack stack = stack_near(vcpu);
	u64 target;

	if (!stack_pop(vcpu, &stack, &target, 1, insn->opsize))
		return false;
	if (!segment_holds(vcpu, &vcpu->seg[CS], target))
		return raise_error(vcpu, VECTOR_GP, 0);
	stack.pointer = (stack.pointer + more) & width_mask(stack.width);
	stack_commit(vcpu, &stack);
	vcpu->ctx.rip = target;
	return true;
}
