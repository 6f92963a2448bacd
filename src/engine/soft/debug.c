/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debug registers, and what they are for: breakpoints. Whose instruction it was, and
 * when the exception comes.
 *
 * Translated code knows nothing of this. A page with a breakpoint for code is run one
 * instruction at a time, each entered through C, which compares rip first; a page with one for
 * data has no valid tag in the TLB, so that accesses to it come to C, which compares their
 * addresses. A hit is a trap, and we have to hear when the instruction is over: it is
 * abandoned before it did anything, as if it had faulted, and run again in a block of its own.
 *
 * So it costs nothing to have no breakpoints, and those who have some pay by the page. Called
 * by run.c between instructions, by mmu.c and ports.c for what they touch. Single
 * steps are here only as far as they share an exception with breakpoints: run.c makes them.
 *
 * A debugger outside the machine has points as well (engine/debug.h), of which the guest sees
 * nothing. They are found in the same places, and stop the vCPU instead: debugger.c.
 *
 * All of it after Intel SDM 3B, "Debug, Branch Profile, TSC, and Intel Resource Director
 * Technology Features".
 *
 * Tour 6.540
 */
#include "engine/soft/system.h"

#include <asm/debugreg.h>

/* Last opcode bytes of MOV to and from debug registers: bit 1 is the direction. */
#define OPCODE_MOV_TO 0x02

/* What <asm/debugreg.h> has no names for. */
#define DR6_ACCESS     (1u << 13) /* BD: by way of GD */
#define DR7_GENERAL    (1u << 13) /* GD: the registers themselves are watched */
#define DR_RW_PORT     2u
#define DR_RW_MASK     3u
#define DR_LEN_SHIFT   2
#define DR_ENABLE_MASK 3u
#define BREAKPOINTS    4u

/* In DR6 what is unused reads as 1, but for bit 12. */
#define DR6_WRITABLE (DR_TRAP_BITS | DR6_ACCESS | DR_STEP | DR_SWITCH)
#define DR6_ONES     0xffff0ff0u
#define DR7_WRITABLE 0xffff23ffu /* not 10 to 12, 14, 15 */
#define DR7_ONES     (1u << 10)

/* A breakpoint, as the registers describe it. */
struct point {
	u8 how; /* WATCH_*; 0: it is off */
	u64 address, length;
};

/*
 * "Debug Control Register (DR7)". The low bits of a data address are ignored as far as the length
 * covers them; of code it says nothing.
 */
static struct point point_of(const struct vcpu *vcpu, unsigned n)
{
	static const u8 lengths[] = {1, 2, 8, 4};
	u32 control = vcpu->dr[DR_CONTROL];
	u32 field = control >> (DR_CONTROL_SHIFT + n * DR_CONTROL_SIZE);
	struct point point = {.length = lengths[field >> DR_LEN_SHIFT & 3]};

	point.address = align_down(vcpu->dr[n], point.length);
	if (!(control >> n * DR_ENABLE_SIZE & DR_ENABLE_MASK))
		return point;
	switch (field & DR_RW_MASK) {
	case DR_RW_EXECUTE:
		point.how = WATCH_CODE;
		point.address = vcpu->dr[n];
		break;
	case DR_RW_WRITE:
		point.how = WATCH_WRITE;
		break;
	case DR_RW_PORT:
		/* Before CR4.DE this was undefined, and is nothing. */
		point.how = vcpu->cr4 & X86_CR4_DE ? WATCH_PORT : 0;
		break;
	default:
		point.how = WATCH_WRITE | WATCH_READ;
		break;
	}
	return point;
}

static bool overlap(const struct point *point, u64 address, u64 length)
{
	return address - point->address < point->length || point->address - address < length;
}

/* The guest's breakpoints of such a kind that lie there, as in DR6. */
static u32 find_hits(const struct vcpu *vcpu, u64 address, u64 length, u8 how)
{
	u32 hits = 0;

	for (unsigned n = 0; n < BREAKPOINTS; n++) {
		struct point point = point_of(vcpu, n);

		if (point.how & how && overlap(&point, address, length))
			hits |= DR_TRAP0 << n;
	}
	return hits;
}

/* The same of the debugger outside, which has one list for all vCPUs. */
static struct point point_outside(const struct debug_point *of)
{
	struct point point = {.address = of->address, .length = of->length};

	switch (of->kind) {
	case DEBUG_CODE:
	case DEBUG_CODE_HARD:
		point.how = WATCH_CODE;
		point.length = 1;
		break;
	case DEBUG_WRITE:
		point.how = WATCH_WRITE;
		break;
	case DEBUG_ACCESS:
		point.how = WATCH_WRITE | WATCH_READ;
		break;
	}
	return point;
}

static const struct debug_point *find_outside(const struct vcpu *vcpu, u64 address, u64 length,
					      u8 how)
{
	const struct attached *attached = &vcpu->soft->attached;

	for (unsigned i = 0; i < attached->count; i++) {
		struct point point = point_outside(&attached->points[i]);

		if (point.how & how && overlap(&point, address, length))
			return &attached->points[i];
	}
	return NULL;
}

void debug_update(struct vcpu *vcpu)
{
	const struct attached *attached = &vcpu->soft->attached;
	u8 before = vcpu->watch.armed, now = 0;

	for (unsigned n = 0; n < BREAKPOINTS; n++)
		now |= point_of(vcpu, n).how;
	for (unsigned i = 0; i < attached->count; i++)
		now |= point_outside(&attached->points[i]).how;
	vcpu->watch.armed = now;
	vcpu->watch.code = false;
	/* Tags and jump caches lead past us. */
	if ((before | now) & (WATCH_CODE | WATCH_WRITE | WATCH_READ))
		tlb_flush(vcpu, true);
}

/* "Debug Status Register (DR6)": of what it said before, who hit is gone, and all else stays. */
static bool raise_debug(struct vcpu *vcpu, u32 why)
{
	vcpu->dr[DR_STATUS] = (vcpu->dr[DR_STATUS] & ~(u64)DR_TRAP_BITS) | why;
	return raise_fault(vcpu, VECTOR_DB);
}

/* ------------------------------------------------------------------ code */

static bool has_code_point(const struct vcpu *vcpu, u64 address, u64 length)
{
	return find_hits(vcpu, address, length, WATCH_CODE) ||
	       find_outside(vcpu, address, length, WATCH_CODE);
}

/*
 * "Instruction-Breakpoint Exception Condition": a fault, which RF, or a load of SS, holds off.
 *
 * Tour 6.541
 */
bool debug_before(struct vcpu *vcpu, u64 linear)
{
	const struct debug_point *outside = find_outside(vcpu, linear, 1, WATCH_CODE);
	u32 hits = find_hits(vcpu, linear, 1, WATCH_CODE);

	vcpu->watch.code = has_code_point(vcpu, align_down(linear, PAGE_SIZE), PAGE_SIZE);
	if (outside) {
		debugger_stop(vcpu, DEBUG_AT_CODE, outside);
		return true;
	}
	if (!hits || vcpu->sysflags & X86_EFLAGS_RF || vcpu->shadow == SHADOW_SS)
		return false;
	raise_debug(vcpu, hits);
	return true;
}

/* What the debugger outside hears of an instruction that is over, though it may have faulted. */
static bool tell_outside(struct vcpu *vcpu)
{
	struct watch *watch = &vcpu->watch;
	bool touched = watch->touched;

	if (!touched && watch->step != STEP_DONE)
		return false;
	watch->touched = false;
	watch->step = STEP_NONE;
	debugger_stop(vcpu, touched ? DEBUG_WATCHED : DEBUG_STEPPED,
		      touched ? &watch->point : NULL);
	return true;
}

/*
 * "Data Memory and I/O Breakpoint Exception Conditions", "Single-Step Exception Condition". Behind
 * a load of SS both wait for the next instruction, and a step is lost if that one ends stepping.
 */
bool debug_behind(struct vcpu *vcpu)
{
	u32 why = vcpu->watch.hits | (vcpu->stepping ? DR_STEP : 0);

	if (tell_outside(vcpu))
		return true;
	if (!why || vcpu->shadow == SHADOW_SS)
		return false;
	vcpu->watch.hits = 0;
	vcpu->stepping = false;
	raise_debug(vcpu, why);
	return true;
}

/* ------------------------------------------------------------------ data and ports */

u8 debug_page(const struct vcpu *vcpu, u64 address)
{
	static const u8 kinds[] = {WATCH_WRITE, WATCH_READ};
	u64 page = align_down(address, PAGE_SIZE);
	u8 how = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		if (find_hits(vcpu, page, PAGE_SIZE, kinds[i]) ||
		    find_outside(vcpu, page, PAGE_SIZE, kinds[i]))
			how |= kinds[i];
	return how;
}

void debug_touched(struct vcpu *vcpu, u64 address, unsigned length, u8 how)
{
	const struct debug_point *outside = find_outside(vcpu, address, length, how);
	u32 hits = find_hits(vcpu, address, length, how);
	struct watch *watch = &vcpu->watch;

	if (!hits && !outside)
		return;
	watch->hits |= hits;
	if (outside) {
		watch->touched = true;
		watch->point = *outside;
		/* The first byte of both. */
		if (overlap(&(struct point){.address = outside->address, .length = outside->length},
			    address, 1))
			watch->point.address = address;
	}
	/* String instructions stop for it, and blocks end, as for anything else that is urgent. */
	vcpu_kick(vcpu, POLL_DEBUG);
}

bool debug_postpone(struct vcpu *vcpu, u64 address, unsigned length, u8 how)
{
	if (vcpu->watch.alone) {
		debug_touched(vcpu, address, length, how);
		return false;
	}
	if (!find_hits(vcpu, address, length, how) && !find_outside(vcpu, address, length, how))
		return false;
	vcpu->watch.again = true;
	return true;
}

/* ------------------------------------------------------------------ the registers */

static bool dr_write(struct vcpu *vcpu, unsigned number, u64 value)
{
	if (number == DR_STATUS || number == DR_CONTROL) {
		if (value >> 32)
			return raise_error(vcpu, VECTOR_GP, 0);
		value = number == DR_STATUS ? (value & DR6_WRITABLE) | DR6_ONES
					    : (value & DR7_WRITABLE) | DR7_ONES;
	}
	vcpu->dr[number] = value;
	if (number != DR_STATUS)
		debug_update(vcpu);
	return true;
}

/*
 * "General-Detect Exception Condition": a fault, for debuggers that are debugged. It is off in the
 * handler, or there would be no end of it.
 */
static bool detect(struct vcpu *vcpu)
{
	vcpu->sysflags |= X86_EFLAGS_RF;
	return raise_debug(vcpu, DR6_ACCESS);
}

bool system_mov_dr(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned number = insn->reg, size = system_register_size(vcpu);

	if (number > DR_CONTROL)
		return raise_fault(vcpu, VECTOR_UD);
	/* DR4 and DR5 are the 386's names for the last two, until CR4.DE takes them away. */
	if (number == 4 || number == 5) {
		if (vcpu->cr4 & X86_CR4_DE)
			return raise_fault(vcpu, VECTOR_UD);
		number += 2;
	}
	if (!system_privileged(vcpu))
		return false;
	if (vcpu->dr[DR_CONTROL] & DR7_GENERAL)
		return detect(vcpu);
	if (insn->opcode & OPCODE_MOV_TO)
		return dr_write(vcpu, number, gpr_read(vcpu, insn->rm, size));
	gpr_write(vcpu, insn->rm, size, vcpu->dr[number]);
	return true;
}

void debug_entered(struct vcpu *vcpu)
{
	vcpu->dr[DR_CONTROL] &= ~(u64)DR7_GENERAL;
}
