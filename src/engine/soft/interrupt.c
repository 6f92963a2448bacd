/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts and exceptions: from "something happened" to the first instruction
 * of the guest's handler. The run loop brings exceptions that were recorded, and
 * what the local APIC has; INT n and its kin are handlers like any other.
 *
 * Delivery itself can fail: the gate is not there, the stack is not mapped. That
 * is an exception again, and the rules for two at once are the architecture's: see
 * interrupt_loop(). Three at once end the machine.
 *
 * As in segment.c, all is read and checked before anything changes.
 *
 * Tour 6.520: From "something happened" to the handler
 */
#include "engine/soft/segment.h"

#include "board/board.h"
#include "host/machine.h"

/* Sizes of a gate: Intel SDM 3A, "IDT Descriptors" and "64-Bit Mode IDT". */
#define GATE_SIZE    8u
#define GATE_SIZE_64 16u
#define IVT_ENTRY    4u /* real mode: a far pointer */

/* gs, fs, ds, es (from virtual-8086 mode), ss, rsp, rflags, cs, rip, error code */
#define FRAME_WORDS 10

/* Who asked. */
enum source {
	SOURCE_EXTERNAL,  /* an interrupt, or NMI */
	SOURCE_EXCEPTION, /* and INT1 */
	SOURCE_SOFTWARE,  /* INT n, INT3, INTO: the gate says who may */
};

struct event {
	enum source source;
	u8 vector;
	bool has_error;
	u32 error;
	u64 cr2;
};

/*
 * In the error code of what goes wrong on the way: was it the program's own doing? Intel SDM 3A,
 * "Error Code".
 */
static u32 external_bit(const struct event *event)
{
	return event->source == SOURCE_SOFTWARE ? 0 : ERROR_EXTERNAL;
}

static u32 gate_error(const struct event *event)
{
	return event->vector * 8u | ERROR_IDT | external_bit(event);
}

/*
 * What the handler finds on its stack. Faults set RF, so that an instruction breakpoint does not
 * strike again; debug exceptions and traps leave it. Intel SDM 3B, "Instruction-Breakpoint
 * Exception Condition".
 */
static u64 pushed_flags(const struct vcpu *vcpu, const struct event *event)
{
	u64 flags = vcpu_rflags(vcpu);

	if (event->source == SOURCE_EXCEPTION && event->vector != VECTOR_DB &&
	    event->vector != VECTOR_DF)
		flags |= X86_EFLAGS_RF;
	return flags;
}

static u64 handler_flags(const struct vcpu *vcpu, bool keeps_if)
{
	u64 clear = X86_EFLAGS_TF | X86_EFLAGS_NT | X86_EFLAGS_RF | X86_EFLAGS_VM;

	if (!keeps_if)
		clear |= X86_EFLAGS_IF;
	return vcpu_rflags(vcpu) & ~clear;
}

static bool in_v86(const struct vcpu *vcpu)
{
	return vcpu->sysflags & X86_EFLAGS_VM;
}

/* ------------------------------------------------------------------ real mode */

/* Intel SDM 2, "INT n", REAL-ADDRESS-MODE. */
#define REAL_CLEARS ((u64)(X86_EFLAGS_IF | X86_EFLAGS_TF | X86_EFLAGS_AC | X86_EFLAGS_RF))

static bool deliver_real(struct vcpu *vcpu, const struct event *event)
{
	const u64 words[] = {vcpu_rflags(vcpu), vcpu->seg[CS].selector, vcpu->ctx.rip};
	struct stack stack = stack_current(vcpu, false, external_bit(event));
	u32 offset = event->vector * IVT_ENTRY;
	u16 target[2];

	if (offset + IVT_ENTRY - 1 > vcpu->idt.limit)
		return raise_error(vcpu, VECTOR_GP, gate_error(event));
	if (!mem_read(vcpu, vcpu->idt.base + offset, target, sizeof(target),
		      ACCESS_READ | ACCESS_SYSTEM))
		return false;
	if (!stack_push(vcpu, &stack, words, ARRAY_SIZE(words), sizeof(u16)))
		return false;
	stack_commit(vcpu, &stack);
	segment_set_real(vcpu, CS, target[1]);
	vcpu->ctx.rip = target[0];
	vcpu_set_rflags(vcpu, vcpu_rflags(vcpu) & ~REAL_CLEARS);
	return true;
}

/* ------------------------------------------------------------------ protected and IA-32e mode */

/* Intel SDM 2, "INT n", PROTECTED-MODE and IA-32e-MODE. */
static bool read_gate(struct vcpu *vcpu, const struct event *event, struct gate *gate)
{
	bool is_64 = vcpu_long_mode(vcpu);
	unsigned size = is_64 ? GATE_SIZE_64 : GATE_SIZE;
	u32 offset = event->vector * size;
	u64 raw[2] = {0, 0};

	if (offset + size - 1 > vcpu->idt.limit)
		return raise_error(vcpu, VECTOR_GP, gate_error(event));
	if (!mem_read(vcpu, system_linear(vcpu, vcpu->idt.base + offset), raw, size,
		      ACCESS_READ | ACCESS_SYSTEM))
		return false;
	*gate = gate_decode(raw[0], raw[1]);

	switch (gate->s ? 0 : gate->type) {
	case SYSTEM_INTERRUPT_GATE:
	case SYSTEM_TRAP_GATE:
		break;
	case SYSTEM_INTERRUPT_GATE_16:
	case SYSTEM_TRAP_GATE_16:
		gate->offset &= UINT16_MAX;
		/* fall through */
	case SYSTEM_TASK_GATE:
		if (!is_64)
			break;
		/* fall through */
	default:
		return raise_error(vcpu, VECTOR_GP, gate_error(event));
	}
	if (event->source == SOURCE_SOFTWARE && gate->dpl < vcpu->cpl)
		return raise_error(vcpu, VECTOR_GP, gate_error(event));
	if (!gate->present)
		return raise_error(vcpu, VECTOR_NP, gate_error(event));
	return true;
}

static bool find_handler(struct vcpu *vcpu, const struct event *event, const struct gate *gate,
			 struct descriptor *code)
{
	const struct segment *segment = &code->segment;
	u32 external = external_bit(event);
	u32 error = selector_error(gate->selector) | external;

	if (selector_is_null(gate->selector))
		return raise_error(vcpu, VECTOR_GP, external);
	if (!descriptor_find(vcpu, gate->selector, VECTOR_GP, external, code))
		return false;
	if (!segment_is_code(segment) || segment->dpl > vcpu->cpl)
		return raise_error(vcpu, VECTOR_GP, error);
	if (!segment->present)
		return raise_error(vcpu, VECTOR_NP, error);
	if (vcpu_long_mode(vcpu) && (!segment->l || segment->db))
		return raise_error(vcpu, VECTOR_GP, error);
	if (in_v86(vcpu) && (segment_is_conforming(segment) || segment->dpl))
		return raise_error(vcpu, VECTOR_GP, error);
	return true;
}

/* Where the frame goes. In IA-32e mode it is aligned, so that the handler may use SSE. */
static bool find_stack(struct vcpu *vcpu, const struct event *event, const struct gate *gate,
		       unsigned cpl, struct stack *stack)
{
	bool is_64 = vcpu_long_mode(vcpu);
	unsigned ist = is_64 ? gate->count & 7 : 0;
	const u64 alignment = 16;

	if (cpl == vcpu->cpl && !ist)
		*stack = stack_current(vcpu, is_64, external_bit(event));
	else if (!stack_inner(vcpu, cpl, ist, external_bit(event), stack))
		return false;
	if (is_64)
		stack->pointer = align_down(stack->pointer, alignment);
	return true;
}

static unsigned fill_frame(const struct vcpu *vcpu, const struct event *event, bool with_stack,
			   u64 *words)
{
	static const u8 registers[] = {GS, FS, DS, ES};
	unsigned count = 0;

	for (unsigned i = 0; in_v86(vcpu) && i < ARRAY_SIZE(registers); i++)
		words[count++] = vcpu->seg[registers[i]].selector;
	if (with_stack) {
		words[count++] = vcpu->seg[SS].selector;
		words[count++] = vcpu->ctx.gpr[RSP];
	}
	words[count++] = pushed_flags(vcpu, event);
	words[count++] = vcpu->seg[CS].selector;
	words[count++] = vcpu->ctx.rip;
	if (event->has_error)
		words[count++] = event->error;
	return count;
}

static unsigned frame_word(const struct vcpu *vcpu, const struct gate *gate)
{
	if (vcpu_long_mode(vcpu))
		return 8;
	return gate->type == SYSTEM_INTERRUPT_GATE || gate->type == SYSTEM_TRAP_GATE ? 4 : 2;
}

/* What virtual-8086 mode had in them means nothing outside. */
static void drop_v86_segments(struct vcpu *vcpu)
{
	static const u8 registers[] = {ES, DS, FS, GS};
	const struct segment none = segment_null(0, 0);

	for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
		vcpu_set_segment(vcpu, registers[i], &none);
}

/* A task gate: the handler has all registers to itself, and finds the error code on its stack. */
static bool deliver_task(struct vcpu *vcpu, const struct event *event, const struct gate *gate)
{
	const struct task_switch how = {
		.why = TASK_CALL,
		.flags = pushed_flags(vcpu, event),
		.external = external_bit(event),
		.has_error = event->has_error,
		.error = event->error,
	};

	return task_switch(vcpu, gate->selector, &how);
}

/*
 * All that the manual does between an event and the handler's first instruction. Above the
 * last blank line all can still fail, and nothing has changed; below it nothing can.
 *
 * Tour 6.521: Delivery
 */
static bool deliver_protected(struct vcpu *vcpu, const struct event *event)
{
	u64 words[FRAME_WORDS];
	struct descriptor code = {0};
	struct stack stack;
	struct gate gate = {0};
	unsigned cpl, count;
	bool is_trap;

	if (!read_gate(vcpu, event, &gate))
		return false;
	if (gate.type == SYSTEM_TASK_GATE)
		return deliver_task(vcpu, event, &gate);
	if (!find_handler(vcpu, event, &gate, &code))
		return false;
	cpl = segment_is_conforming(&code.segment) ? vcpu->cpl : code.segment.dpl;
	if (!find_stack(vcpu, event, &gate, cpl, &stack))
		return false;
	if (!segment_holds(vcpu, &code.segment, gate.offset))
		return raise_error(vcpu, VECTOR_GP, external_bit(event));
	if (!descriptor_mark_accessed(vcpu, &code) || !descriptor_mark_accessed(vcpu, &stack.ss))
		return false;
	count = fill_frame(vcpu, event, vcpu_long_mode(vcpu) || cpl != vcpu->cpl, words);
	if (!stack_push(vcpu, &stack, words, count, frame_word(vcpu, &gate)))
		return false;

	is_trap = gate.type == SYSTEM_TRAP_GATE || gate.type == SYSTEM_TRAP_GATE_16;
	if (in_v86(vcpu))
		drop_v86_segments(vcpu);
	if (cpl != vcpu->cpl)
		stack_switch(vcpu, &stack);
	else
		stack_commit(vcpu, &stack);
	segment_set_code(vcpu, &code.segment, cpl);
	vcpu->ctx.rip = gate.offset;
	vcpu_set_rflags(vcpu, handler_flags(vcpu, is_trap));
	return true;
}

/* ------------------------------------------------------------------ one at a time */

/* True, or nothing has changed and what is wrong is recorded. */
static bool deliver(struct vcpu *vcpu, const struct event *event)
{
	u16 cs = vcpu->seg[CS].selector;
	u64 rip = vcpu->ctx.rip;

	if (!(vcpu->cr0 & X86_CR0_PE ? deliver_protected(vcpu, event) : deliver_real(vcpu, event)))
		return false;
	vcpu->shadow = SHADOW_NONE;
	vcpu->halted = false;
	/* INT n is not stepped over, but into, and then TF is clear. */
	vcpu->stepping = false;
	if (event->vector == VECTOR_DB && event->source == SOURCE_EXCEPTION)
		debug_entered(vcpu);
	TRACE(vcpu, INT, "%s 0x%02x error 0x%x cr2 0x%llx: 0x%x:0x%llx -> 0x%x:0x%llx rsp 0x%llx",
	      event->source == SOURCE_EXTERNAL	  ? "interrupt"
	      : event->source == SOURCE_EXCEPTION ? "exception"
						  : "int",
	      event->vector, event->error, (unsigned long long)vcpu->cr2, cs,
	      (unsigned long long)rip, vcpu->seg[CS].selector, (unsigned long long)vcpu->ctx.rip,
	      (unsigned long long)vcpu->ctx.gpr[RSP]);
	return true;
}

/* Intel SDM 3A, "Interrupt and Exception Classes". */
static bool is_contributory(u8 vector)
{
	return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP);
}

/* Intel SDM 3A, "Conditions for Generating a Double Fault". */
static bool makes_double_fault(const struct event *first, const struct event *second)
{
	if (first->source != SOURCE_EXCEPTION)
		return false;
	if (is_contributory(first->vector))
		return is_contributory(second->vector);
	return first->vector == VECTOR_PF &&
	       (second->vector == VECTOR_PF || is_contributory(second->vector));
}

static void triple_fault(struct vcpu *vcpu)
{
	struct machine *machine = vcpu->soft->engine.board->machine;

	vcpu->leave = true;
	vectors_save(vcpu);
	machine_stop(machine, EXIT_CRASHED,
		     "the guest crashed: triple fault on vCPU %u at rip 0x%llx (cs 0x%x, rsp "
		     "0x%llx, cr2 0x%llx, cr3 0x%llx)",
		     vcpu->index, (unsigned long long)vcpu->ctx.rip, vcpu->seg[CS].selector,
		     (unsigned long long)vcpu->ctx.gpr[RSP], (unsigned long long)vcpu->cr2,
		     (unsigned long long)vcpu->cr3);
}

/*
 * What raise_*() recorded, as an event. A page fault's address goes to CR2 already here: it stays
 * when the page fault turns into a double fault, and Linux tells a stack overflow by it.
 */
static struct event take_exception(struct vcpu *vcpu)
{
	struct event event = {
		.source = SOURCE_EXCEPTION,
		.vector = vcpu->exception.vector,
		.has_error = vcpu->exception.has_error,
		.error = vcpu->exception.error,
	};

	vcpu->exception.pending = false;
	if (event.vector == VECTOR_PF)
		vcpu->cr2 = vcpu->exception.cr2;
	vcpu->stats.exceptions[event.vector % ARRAY_SIZE(vcpu->stats.exceptions)]++;
	return event;
}

/*
 * Until something is delivered, or nothing can be. The chain is short: a benign event, a
 * contributory one, a page fault, a double fault, the end.
 *
 * Tour 6.522: One fault after the other
 */
static void interrupt_loop(struct vcpu *vcpu, struct event event)
{
	while (!deliver(vcpu, &event)) {
		struct event second = take_exception(vcpu);

		TRACE(vcpu, INT,
		      "0x%02x error 0x%x not delivered: 0x%02x error 0x%x at 0x%x:0x%llx",
		      event.vector, event.error, second.vector, second.error,
		      vcpu->seg[CS].selector, (unsigned long long)vcpu->ctx.rip);
		if (event.source == SOURCE_EXCEPTION && event.vector == VECTOR_DF) {
			triple_fault(vcpu);
			return;
		}
		if (makes_double_fault(&event, &second)) {
			second = (struct event){
				.source = SOURCE_EXCEPTION,
				.vector = VECTOR_DF,
				.has_error = true,
			};
			vcpu->stats.exceptions[VECTOR_DF]++;
		}
		event = second;
	}
}

void interrupt_deliver_exception(struct vcpu *vcpu)
{
	interrupt_loop(vcpu, take_exception(vcpu));
}

void interrupt_deliver(struct vcpu *vcpu, u8 vector)
{
	vcpu->stats.interrupts++;
	/* Until the next IRET, of whichever handler: Intel SDM 3A, "Handling Multiple NMIs". */
	if (vector == VECTOR_NMI)
		vcpu->nmi_blocked = true;
	interrupt_loop(vcpu, (struct event){.source = SOURCE_EXTERNAL, .vector = vector});
}

void interrupt_recheck(struct vcpu *vcpu)
{
	if ((vcpu->nmi_pending && !vcpu->nmi_blocked) ||
	    (vcpu->ctx.intflag && lapic_pending(vcpu) >= 0))
		vcpu_kick(vcpu, POLL_INTERRUPT);
}

/* ------------------------------------------------------------------ INT n and its kin */

/*
 * These are traps: the next instruction is where the handler returns to, and that is what ctx.rip
 * is. If they cannot be delivered, that is a fault, of this instruction.
 */
static bool software(struct vcpu *vcpu, u8 vector)
{
	return deliver(vcpu, &(struct event){.source = SOURCE_SOFTWARE, .vector = vector});
}

/* In virtual-8086 mode it is for those with I/O privilege; the short forms are for all. */
bool interrupt_int(struct vcpu *vcpu, const struct insn *insn)
{
	if (in_v86(vcpu) && system_iopl(vcpu) < V86_CPL)
		return raise_error(vcpu, VECTOR_GP, 0);
	return software(vcpu, insn->immediate);
}

bool interrupt_int3(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!software(vcpu, VECTOR_BP))
		return false;
	vcpu->stats.exceptions[VECTOR_BP]++;
	return true;
}

bool interrupt_into(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!(vcpu->ctx.arith & X86_EFLAGS_OF))
		return true;
	if (!software(vcpu, VECTOR_OF))
		return false;
	vcpu->stats.exceptions[VECTOR_OF]++;
	return true;
}

/* A debug exception that asks nobody: Intel SDM 2, "INT n", where it speaks of INT1. */
bool interrupt_int1(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!deliver(vcpu, &(struct event){.source = SOURCE_EXCEPTION, .vector = VECTOR_DB}))
		return false;
	vcpu->stats.exceptions[VECTOR_DB]++;
	return true;
}
