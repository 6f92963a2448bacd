/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC of a vCPU: its registers, and which interrupt is next.
 *
 * Intel SDM volume 3A, "Advanced Programmable Interrupt Controller (APIC)", is the book.
 * The registers are reached in two ways, of which the guest chooses one: a page of memory
 * (xAPIC), or MSRs (x2APIC). The second kind are numbered as the first are, in steps of
 * 1 instead of 16, so there is one set of functions for both, and a few rules that
 * differ. We have six local vectors, of which two ever ring: the timer's and that for
 * errors. Nothing is wired to LINT0, LINT1, the thermal sensor and the counters.
 *
 * Tour 6.602
 */
#include "board/board.h"
#include "engine/soft/lapic.h"

#include <stdlib.h>

/*
 * Registers, by MSR: Intel SDM 3A, table "Local APIC Register Address Map Supported by x2APIC". In
 * memory each is 16 bytes from the next.
 */
enum {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09, /* these, and the two others so marked, are for memory only */
	REG_PPR = 0x0a,
	REG_EOI = 0x0b,
	REG_RRD = 0x0c, /* memory only */
	REG_LDR = 0x0d,
	REG_DFR = 0x0e, /* memory only */
	REG_SVR = 0x0f,
	REG_ISR = 0x10, /* eight of them, and of the next two */
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_ICR = 0x30,
	REG_ICR_HIGH = 0x31, /* memory only */
	REG_LVT = 0x32,
	REG_INITIAL = 0x38,
	REG_CURRENT = 0x39,
	REG_DIVIDE = 0x3e,
	REG_SELF_IPI = 0x3f, /* MSR only */
};
#define REG_SHIFT 4
#define MSR_FIRST 0x800u

/* An integrated APIC; bits 23..16: local vectors, less one. */
#define VERSION (0x14u | (LVT_COUNT - 1) << 16)

#define SVR_WRITABLE 0x3ffu /* vector, enable, focus checking */
#define SVR_RESET    0xffu

#define DIVIDE_WRITABLE 0xbu

/* A SIPI's vector is a page of the first MiB. */
#define SIPI_SHIFT	    12
#define SIPI_SELECTOR_SHIFT 8

/* ------------------------------------------------------------------ the vCPU's side */

static int highest(const u64 *words)
{
	for (int i = WORDS - 1; i >= 0; i--)
		if (words[i])
			return i * WORD_BITS + WORD_BITS - 1 - __builtin_clzll(words[i]);
	return -1;
}

static int highest_requested(struct lapic *lapic)
{
	for (int i = WORDS - 1; i >= 0; i--) {
		u64 word = atomic_load(&lapic->requested[i]);

		if (word)
			return i * WORD_BITS + WORD_BITS - 1 - __builtin_clzll(word);
	}
	return -1;
}

/* Intel SDM 3A, "Task and Processor Priorities". */
static u8 processor_priority(const struct lapic *lapic)
{
	int vector = highest(lapic->in_service);
	u8 in_service = vector < 0 ? 0 : vector & 0xf0;
	u8 tpr = atomic_load(&lapic->tpr);

	return (tpr & 0xf0) >= in_service ? tpr : in_service;
}

/*
 * The vector that is to be delivered now, or -1: the highest that was requested, if it is of a
 * higher class than what is being handled already.
 *
 * Tour 6.603, 2 items: Which one is next
 */
int lapic_pending(struct vcpu *vcpu)
{
	struct lapic *lapic = vcpu->lapic;
	int vector = highest_requested(lapic);

	if (vector < 0 || !(atomic_load(&lapic->svr) & SVR_ENABLE))
		return -1;
	return (vector & 0xf0) > (processor_priority(lapic) & 0xf0) ? vector : -1;
}

void lapic_accept(struct vcpu *vcpu, u8 vector)
{
	struct lapic *lapic = vcpu->lapic;

	atomic_fetch_and(&lapic->requested[vector / WORD_BITS], ~vector_bit(vector));
	lapic->in_service[vector / WORD_BITS] |= vector_bit(vector);
}

/* Something that held interrupts back may have gone. */
static void recheck(struct lapic *lapic)
{
	if (lapic_pending(lapic->vcpu) >= 0)
		vcpu_kick(lapic->vcpu, POLL_INTERRUPT);
}

static void end_of_interrupt(struct lapic *lapic)
{
	int vector = highest(lapic->in_service);
	u64 bit;

	if (vector < 0)
		return;
	bit = vector_bit(vector);
	lapic->in_service[vector / WORD_BITS] &= ~bit;
	if (atomic_load(&lapic->level[vector / WORD_BITS]) & bit) {
		vectors_save(lapic->vcpu);
		board_eoi(lapic->vcpu->soft->engine.board, vector);
	}
	recheck(lapic);
}

/* Intel SDM 3A, "Local APIC State After Power-Up or Reset". */
static void clear(struct lapic *lapic)
{
	/* First, so that little comes in behind us. `events` are not ours: a SIPI may be there. */
	atomic_store(&lapic->svr, SVR_RESET);
	for (unsigned i = 0; i < WORDS; i++) {
		atomic_store(&lapic->requested[i], 0);
		atomic_store(&lapic->level[i], 0);
		lapic->in_service[i] = 0;
	}
	atomic_store(&lapic->errors, 0);
	atomic_store(&lapic->tpr, 0);
	atomic_store(&lapic->ldr, 0);
	atomic_store(&lapic->dfr, UINT32_MAX);
	lapic->error_status = 0;
	lapic->icr = 0;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		lapic->lvt[i] = LVT_MASKED;
	lapic_timer_reset(lapic);
}

/*
 * Intel SDM 3A, "Local APIC State After an INIT Reset (Wait-for-SIPI State)" and "x2APIC State
 * Transitions": as after power-up, but in the mode in which it was, and with the name that x2APIC
 * mode gives.
 */
static void reinitialise(struct lapic *lapic)
{
	u32 ldr = atomic_load(&lapic->ldr);

	clear(lapic);
	if (atomic_load(&lapic->mode) == APIC_X2APIC)
		atomic_store(&lapic->ldr, ldr);
}

/*
 * Intel SDM 3A, "MP Initialization Protocol Algorithm": all but the first wait for a SIPI. The
 * first begins where the machine did, in a firmware; here there is none, and to run what else may
 * be found would help nobody.
 */
static void take_init(struct vcpu *vcpu)
{
	if (vcpu->apic_base & APIC_BASE_BSP) {
		vcpu->leave = true;
		vectors_save(vcpu);
		machine_stop(vcpu->soft->engine.board->machine, EXIT_CRASHED,
			     "the guest crashed: vCPU %u got an INIT, after which the first CPU "
			     "starts the firmware, and there is none",
			     vcpu->index);
		return;
	}
	vcpu_init(vcpu);
	reinitialise(vcpu->lapic);
}

/* Real mode, at the start of that page. One that does not wait takes no notice. */
static void start(struct vcpu *vcpu, u8 vector)
{
	struct segment cs = vcpu->seg[CS];

	if (!vcpu->waiting)
		return;
	cs.selector = vector << SIPI_SELECTOR_SHIFT;
	cs.base = (u64)vector << SIPI_SHIFT;
	vcpu_set_segment(vcpu, CS, &cs);
	vcpu_update_mode(vcpu);
	vcpu->ctx.rip = 0;
	vcpu->waiting = false;
}

void lapic_tick(struct vcpu *vcpu)
{
	struct lapic *lapic = vcpu->lapic;
	u32 events = atomic_exchange(&lapic->events, 0);
	u32 error_lvt;

	if (events & EVENT_INIT)
		take_init(vcpu);
	/* Who waits for a SIPI has no use for anything else, and no table of vectors either. */
	if (events & EVENT_NMI && !vcpu->waiting)
		vcpu->nmi_pending = true;
	if (events & EVENT_SIPI)
		start(vcpu, (events & EVENT_VECTOR) >> EVENT_VECTOR_SHIFT);
	error_lvt = lapic->lvt[LVT_ERROR];
	/* An illegal vector for errors would be another error, and so on: it is none. */
	if (events & EVENT_ERROR && !(error_lvt & LVT_MASKED) &&
	    (error_lvt & LVT_VECTOR) >= VECTOR_FIRST)
		lapic_request(lapic, error_lvt & LVT_VECTOR, false);
	lapic_timer_update(lapic);
}

/* ------------------------------------------------------------------ registers */

static u32 lvt_writable(unsigned index)
{
	switch (index) {
	case LVT_TIMER:
		return LVT_VECTOR | LVT_MASKED | LVT_MODE;
	case LVT_LINT0:
	case LVT_LINT1:
		return LVT_VECTOR | LVT_DELIVERY | LVT_POLARITY | LVT_LEVEL | LVT_MASKED;
	case LVT_ERROR:
		return LVT_VECTOR | LVT_MASKED;
	default:
		return LVT_VECTOR | LVT_DELIVERY | LVT_MASKED;
	}
}

static void write_lvt(struct lapic *lapic, unsigned index, u32 value)
{
	value &= lvt_writable(index);
	if (!(atomic_load(&lapic->svr) & SVR_ENABLE))
		value |= LVT_MASKED;
	if (index == LVT_TIMER)
		lapic_timer_set_lvt(lapic, value);
	else
		lapic->lvt[index] = value;
}

static void write_svr(struct lapic *lapic, u32 value)
{
	atomic_store(&lapic->svr, value & SVR_WRITABLE);
	if (!(value & SVR_ENABLE))
		for (unsigned i = 0; i < LVT_COUNT; i++)
			write_lvt(lapic, i, lapic->lvt[i]);
	recheck(lapic);
}

static void write_tpr(struct lapic *lapic, u8 tpr)
{
	atomic_store(&lapic->tpr, tpr);
	recheck(lapic);
}

/* ISR, TMR and IRR are eight registers of 32 bits each: the index-th of them. */
static u32 half(u64 word, unsigned index)
{
	return word >> (index % 2 ? 32 : 0);
}

static u32 read_vectors(struct lapic *lapic, unsigned reg)
{
	unsigned index = reg % 8;

	switch (reg - index) {
	case REG_ISR:
		return half(lapic->in_service[index / 2], index);
	case REG_TMR:
		return half(atomic_load(&lapic->level[index / 2]), index);
	default:
		return half(atomic_load(&lapic->requested[index / 2]), index);
	}
}

static u32 local_id(const struct lapic *lapic)
{
	u32 id = lapic->vcpu->index;

	return atomic_load(&lapic->mode) == APIC_X2APIC ? id : id << LDR_SHIFT;
}

/* False: there is none, or it cannot be read. Those that one of the modes lacks are the caller's
 * affair. */
static bool read_register(struct lapic *lapic, u32 reg, u64 *value)
{
	switch (reg) {
	case REG_ID:
		*value = local_id(lapic);
		return true;
	case REG_VERSION:
		*value = VERSION;
		return true;
	case REG_TPR:
		*value = atomic_load(&lapic->tpr);
		return true;
	case REG_APR: /* arbitration was by wires, which ended with the Pentium */
	case REG_RRD:
		*value = 0;
		return true;
	case REG_PPR:
		*value = processor_priority(lapic);
		return true;
	case REG_LDR:
		*value = atomic_load(&lapic->ldr);
		return true;
	case REG_DFR:
		*value = atomic_load(&lapic->dfr);
		return true;
	case REG_SVR:
		*value = atomic_load(&lapic->svr);
		return true;
	case REG_ISR ... REG_IRR + 7:
		*value = read_vectors(lapic, reg);
		return true;
	case REG_ESR:
		*value = lapic->error_status;
		return true;
	case REG_ICR:
		*value = lapic->icr;
		return true;
	case REG_ICR_HIGH:
		*value = lapic->icr >> 32;
		return true;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1:
		*value = lapic->lvt[reg - REG_LVT];
		return true;
	case REG_INITIAL:
		*value = lapic->initial;
		return true;
	case REG_CURRENT:
		*value = lapic_timer_current(lapic);
		return true;
	case REG_DIVIDE:
		*value = lapic->divide;
		return true;
	default:
		return false;
	}
}

/* False: there is none, or it cannot be written. Bits that do not exist are ignored. */
static bool write_register(struct lapic *lapic, u32 reg, u32 value)
{
	switch (reg) {
	case REG_TPR:
		write_tpr(lapic, value);
		return true;
	case REG_EOI:
		end_of_interrupt(lapic);
		return true;
	case REG_SVR:
		write_svr(lapic, value);
		return true;
	case REG_ESR:
		lapic->error_status = atomic_exchange(&lapic->errors, 0);
		return true;
	case REG_ICR:
		lapic->icr = (lapic->icr & ~(u64)UINT32_MAX) | (value & ICR_WRITABLE);
		lapic_send_command(lapic);
		return true;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1:
		write_lvt(lapic, reg - REG_LVT, value);
		return true;
	case REG_INITIAL:
		lapic_timer_set_initial(lapic, value);
		return true;
	case REG_DIVIDE:
		lapic_timer_set_divide(lapic, value & DIVIDE_WRITABLE);
		return true;
	default:
		return false;
	}
}

/* Those that are there for reading only. */
static bool write_ignored(u32 reg)
{
	switch (reg) {
	case REG_ID:
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_ISR ... REG_IRR + 7:
	case REG_CURRENT:
		return true;
	default:
		return false;
	}
}

u32 lapic_read(struct vcpu *vcpu, u32 offset)
{
	struct lapic *lapic = vcpu->lapic;
	u64 value = 0;

	if (atomic_load(&lapic->mode) != APIC_XAPIC)
		return UINT32_MAX; /* nobody there */
	if (offset % (1u << REG_SHIFT))
		return 0;
	offset >>= REG_SHIFT;
	if (offset != REG_EOI && !read_register(lapic, offset, &value))
		lapic_report_error(lapic, ERROR_ILLEGAL_REGISTER);
	return value;
}

void lapic_write(struct vcpu *vcpu, u32 offset, u32 value)
{
	struct lapic *lapic = vcpu->lapic;

	if (atomic_load(&lapic->mode) != APIC_XAPIC || offset % (1u << REG_SHIFT))
		return;
	offset >>= REG_SHIFT;
	switch (offset) {
	case REG_LDR:
		atomic_store(&lapic->ldr, value & ~0u << LDR_SHIFT);
		break;
	case REG_DFR:
		atomic_store(&lapic->dfr, value | DFR_RESERVED);
		break;
	case REG_ICR_HIGH:
		lapic->icr = (u32)lapic->icr | (u64)(value & ~0u << LDR_SHIFT) << 32;
		break;
	default:
		if (!write_register(lapic, offset, value) && !write_ignored(offset))
			lapic_report_error(lapic, ERROR_ILLEGAL_REGISTER);
	}
}

bool lapic_x2_read(struct vcpu *vcpu, u32 msr, u64 *value)
{
	struct lapic *lapic = vcpu->lapic;
	u32 reg = msr - MSR_FIRST;

	if (atomic_load(&lapic->mode) != APIC_X2APIC)
		return false;
	if (reg == REG_APR || reg == REG_RRD || reg == REG_DFR || reg == REG_ICR_HIGH)
		return false;
	return read_register(lapic, reg, value);
}

/* Intel SDM 3A, "Reserved Bit Checking": what may be written to a register, else #GP. */
static u64 x2_writable(u32 reg)
{
	switch (reg) {
	case REG_TPR:
	case REG_SELF_IPI:
		return 0xff;
	case REG_SVR:
		return SVR_WRITABLE;
	case REG_ICR:
		return (u64)UINT32_MAX << 32 | ICR_WRITABLE;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1:
		return lvt_writable(reg - REG_LVT) | LVT_READ_ONLY;
	case REG_INITIAL:
		return UINT32_MAX;
	case REG_DIVIDE:
		return DIVIDE_WRITABLE;
	default: /* EOI and ESR take 0 */
		return 0;
	}
}

bool lapic_x2_write(struct vcpu *vcpu, u32 msr, u64 value)
{
	struct lapic *lapic = vcpu->lapic;
	u32 reg = msr - MSR_FIRST;

	if (atomic_load(&lapic->mode) != APIC_X2APIC || value & ~x2_writable(reg))
		return false;
	if (reg == REG_SELF_IPI) {
		lapic_request(lapic, value, false);
		return true;
	}
	if (reg == REG_ICR)
		lapic->icr = value;
	return write_register(lapic, reg, value);
}

void lapic_set_tpr(struct vcpu *vcpu, u8 tpr)
{
	write_tpr(vcpu->lapic, tpr);
}

u8 lapic_tpr(struct vcpu *vcpu)
{
	return atomic_load(&vcpu->lapic->tpr);
}

/* ------------------------------------------------------------------ its life */

struct lapic *lapic_new(struct vcpu *vcpu)
{
	struct lapic *lapic = calloc(1, sizeof(*lapic));

	if (!lapic)
		return NULL;
	lapic->vcpu = vcpu;
	lapic->armed_for = NEVER;
	vcpu->apic_base = LAYOUT_LAPIC | APIC_BASE_ENABLE | (vcpu->index ? 0 : APIC_BASE_BSP);
	atomic_store(&lapic->mode, APIC_XAPIC);
	clear(lapic);
	return lapic;
}

void lapic_free(struct lapic *lapic)
{
	free(lapic);
}

u64 lapic_base_get(const struct vcpu *vcpu)
{
	return vcpu->apic_base;
}

/* Intel SDM 3A, "x2APIC State Transitions": in at the top, and out by switching off. */
static bool transition_allowed(u32 from, u32 to)
{
	return from == to || to == APIC_OFF || (from == APIC_OFF && to == APIC_XAPIC) ||
	       (from == APIC_XAPIC && to == APIC_X2APIC);
}

bool lapic_base_set(struct vcpu *vcpu, u64 value)
{
	const u64 flags = APIC_BASE_BSP | APIC_BASE_X2 | APIC_BASE_ENABLE;
	struct lapic *lapic = vcpu->lapic;
	u32 from = atomic_load(&lapic->mode), to = APIC_OFF;

	/* It stays where the MSIs go. */
	if ((value & ~flags) != LAYOUT_LAPIC)
		return false;
	if (value & APIC_BASE_ENABLE)
		to = value & APIC_BASE_X2 ? APIC_X2APIC : APIC_XAPIC;
	else if (value & APIC_BASE_X2)
		return false;
	if (!transition_allowed(from, to))
		return false;

	vcpu->apic_base = value;
	if (from == to)
		return true;
	if (to == APIC_OFF)
		clear(lapic);
	if (to == APIC_X2APIC) {
		u32 id = vcpu->index;

		/* "Deriving Logical x2APIC ID from the Local x2APIC ID": not for the guest to
		 * choose. */
		atomic_store(&lapic->ldr, id >> 4 << 16 | 1u << (id & 0xf));
		lapic->icr = 0;
	}
	atomic_store(&lapic->mode, to);
	return true;
}
