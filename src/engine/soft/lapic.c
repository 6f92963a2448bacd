/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC of a vCPU: where messages become interrupts, and where its timer is.
 *
 * Intel SDM volume 3A, "Advanced Programmable Interrupt Controller (APIC)", is the book.
 * The registers are reached in two ways, of which the guest chooses one: a page of memory
 * (xAPIC), or MSRs (x2APIC). The second kind are numbered as the first are, in steps of
 * 1 instead of 16, so there is one set of functions for both, and a few rules that
 * differ. We have six local vectors, of which two ever ring: the timer's and that for
 * errors. Nothing is wired to LINT0, LINT1, the thermal sensor and the counters.
 *
 * Messages come from any thread (devices, other vCPUs). They only set bits that any
 * thread may set, and kick the vCPU; all else is its own thread's. What a message asks of
 * the vCPU itself (NMI, INIT, SIPI) waits in `events` for lapic_tick().
 *
 * The timer counts at 1 GHz, or compares with the guest's TSC. It is not a thing that
 * runs: it is a moment, which is compared with the clock whenever someone looks. A host
 * timer only sees to it that someone does.
 *
 * Tour 6.600: The local APIC
 */
#include "board/board.h"
#include "engine/soft/internal.h"

#include <stdlib.h>
#include <time.h>

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

/* In the order of their registers. */
enum { LVT_TIMER, LVT_THERMAL, LVT_COUNTERS, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* An integrated APIC; bits 23..16: local vectors, less one. */
#define VERSION (0x14u | (LVT_COUNT - 1) << 16)

#define SVR_ENABLE   (1u << 8)
#define SVR_WRITABLE 0x3ffu /* vector, enable, focus checking */
#define SVR_RESET    0xffu

#define LVT_VECTOR     0xffu
#define LVT_DELIVERY   (7u << 8)
#define LVT_STATUS     (1u << 12) /* read-only */
#define LVT_POLARITY   (1u << 13)
#define LVT_REMOTE_IRR (1u << 14) /* read-only */
#define LVT_LEVEL      (1u << 15)
#define LVT_MASKED     (1u << 16)
#define LVT_MODE_SHIFT 17
#define LVT_MODE       (3u << LVT_MODE_SHIFT)
#define LVT_READ_ONLY  (LVT_STATUS | LVT_REMOTE_IRR)

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define DIVIDE_WRITABLE 0xbu

#define LDR_SHIFT    24 /* of an id in memory-mapped registers */
#define DFR_FLAT     0xfu
#define DFR_SHIFT    28
#define DFR_RESERVED 0x0fffffffu /* all ones */

/* Errors: Intel SDM 3A, "Error Status Register". */
#define ERROR_SEND_ILLEGAL     (1u << 5)
#define ERROR_RECEIVE_ILLEGAL  (1u << 6)
#define ERROR_ILLEGAL_REGISTER (1u << 7)

/* Vectors below are exceptions' and illegal for an interrupt. */
#define VECTOR_FIRST 16

/* The interrupt command register, lower half; and what an MSI's data has in the same places. */
#define ICR_VECTOR	    0xffu
#define ICR_MODE_SHIFT	    8
#define ICR_LOGICAL	    (1u << 11)
#define ICR_ASSERT	    (1u << 14)
#define ICR_LEVEL	    (1u << 15)
#define ICR_SHORTHAND_SHIFT 18
#define ICR_WRITABLE                                                                               \
	(ICR_VECTOR | 7u << ICR_MODE_SHIFT | ICR_LOGICAL | ICR_ASSERT | ICR_LEVEL |                \
	 3u << ICR_SHORTHAND_SHIFT)

enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

/* Delivery modes. SMI and external interrupts have nobody here who would understand them. */
enum { DELIVER_FIXED = 0, DELIVER_LOWEST = 1, DELIVER_NMI = 4, DELIVER_INIT = 5, DELIVER_SIPI = 6 };

/* An MSI's address: Intel SDM 3A, "Message Address Register Format". */
#define MSI_WINDOW_SHIFT  20
#define MSI_DEST_SHIFT	  12
#define MSI_DEST	  0xffu
#define MSI_REDIRECT_HINT (1u << 3)
#define MSI_LOGICAL	  (1u << 2)

/* Destinations that mean everybody. */
#define BROADCAST    0xffu
#define BROADCAST_X2 0xffffffffu

/* A SIPI's vector is a page of the first MiB. */
#define SIPI_SHIFT	    12
#define SIPI_SELECTOR_SHIFT 8

/*
 * A guest may ask for a period of 1 ns. It gets an interrupt whenever it looks, but the host's
 * timer rings no more often than this.
 */
#define PERIOD_MIN_NS 10000u

/*
 * The host's timer follows a clock that is steered, by less than 1 part in this many; so it may
 * ring a little early by ours. Linux slews by 1 in 2,000 at most.
 */
#define CLOCK_AGREEMENT 1024u

#define NEVER UINT64_MAX

/* What waits for the vCPU's thread. */
#define EVENT_NMI	   (1u << 0)
#define EVENT_INIT	   (1u << 1)
#define EVENT_SIPI	   (1u << 2) /* behind EVENT_INIT, if that is there too */
#define EVENT_ERROR	   (1u << 3)
#define EVENT_VECTOR_SHIFT 8 /* the SIPI's */
#define EVENT_VECTOR	   (0xffu << EVENT_VECTOR_SHIFT)

enum mode { APIC_OFF, APIC_XAPIC, APIC_X2APIC };

/* One bit for each vector. */
#define WORDS	  4
#define WORD_BITS 64

struct lapic {
	struct vcpu *vcpu;

	/* Any thread. */
	_Atomic u64 requested[WORDS]; /* IRR */
	_Atomic u64 level[WORDS];     /* TMR: whose end the IOAPIC wants to know */
	_Atomic u32 events;	      /* EVENT_* */
	_Atomic u32 errors;	      /* since ESR was last written */

	/* Written by the vCPU's thread, read by any. */
	_Atomic u32 mode;
	_Atomic u32 svr, tpr, ldr, dfr;

	/* The vCPU's thread only. */
	u64 in_service[WORDS]; /* ISR */
	u32 error_status;
	u64 icr;
	u32 lvt[LVT_COUNT];

	u32 initial, divide;
	bool counting; /* one-shot and periodic: from `started` on */
	u64 started;   /* host TSC */
	u64 periods;   /* since then, that have rung */
	u64 deadline;  /* guest TSC; 0: none */
	u64 armed_for; /* host TSC; NEVER: the host's timer is off */
	u64 armed_since;
};

/* ------------------------------------------------------------------ messages */

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

static u64 vector_bit(u8 vector)
{
	return 1ull << vector % WORD_BITS;
}

/* The vCPU's thread sees to it. */
static void notify(struct lapic *lapic, u32 event)
{
	atomic_fetch_or(&lapic->events, event);
	vcpu_kick(lapic->vcpu, POLL_INTERRUPT);
}

static void report_error(struct lapic *lapic, u32 error)
{
	atomic_fetch_or(&lapic->errors, error);
	notify(lapic, EVENT_ERROR);
}

/*
 * Intel SDM 3A, "Local APIC State After It Has Been Software Disabled": then there are no
 * interrupts, but there is NMI. The trigger is there before the request is.
 */
static void request(struct lapic *lapic, u8 vector, bool level)
{
	unsigned word = vector / WORD_BITS;

	if (vector < VECTOR_FIRST) {
		report_error(lapic, ERROR_RECEIVE_ILLEGAL);
		return;
	}
	if (!(atomic_load(&lapic->svr) & SVR_ENABLE))
		return;
	if (level)
		atomic_fetch_or(&lapic->level[word], vector_bit(vector));
	else
		atomic_fetch_and(&lapic->level[word], ~vector_bit(vector));
	atomic_fetch_or(&lapic->requested[word], vector_bit(vector));
	vcpu_kick(lapic->vcpu, POLL_INTERRUPT);
}

/*
 * A CPU takes these two in the order in which they come, and of those that it has not taken yet
 * only the last INIT and the first SIPI behind it mean anything. So INIT wipes out what came
 * before it, and a SIPI that finds another leaves it.
 */
static void request_init(struct lapic *lapic)
{
	atomic_fetch_and(&lapic->events, ~(EVENT_SIPI | EVENT_VECTOR));
	notify(lapic, EVENT_INIT);
}

static void request_startup(struct lapic *lapic, u8 vector)
{
	u32 events = atomic_load(&lapic->events);

	do {
		if (events & EVENT_SIPI)
			return;
	} while (!atomic_compare_exchange_weak(
		&lapic->events, &events, events | EVENT_SIPI | (u32)vector << EVENT_VECTOR_SHIFT));
	vcpu_kick(lapic->vcpu, POLL_INTERRUPT);
}

struct message {
	const struct lapic *sender; /* NULL: a device */
	unsigned shorthand;	    /* instead of a destination; of IPIs only */
	u32 destination, broadcast;
	bool logical;
	bool lowest; /* one of those that it is for */
	u8 vector, mode;
	bool level;
};

static void deliver(struct lapic *lapic, const struct message *message)
{
	switch (message->mode) {
	case DELIVER_FIXED:
	case DELIVER_LOWEST:
		request(lapic, message->vector, message->level);
		break;
	case DELIVER_NMI:
		notify(lapic, EVENT_NMI);
		break;
	case DELIVER_INIT:
		request_init(lapic);
		break;
	case DELIVER_SIPI:
		request_startup(lapic, message->vector);
		break;
	}
}

/*
 * Intel SDM 3A, "Determining IPI Destination". Nobody can start himself over by shorthand: table
 * "Valid Combinations for the Pentium 4 and Intel Xeon Processors' Local xAPIC Interrupt Command
 * Register".
 */
static bool is_for_shorthand(const struct lapic *lapic, const struct message *message)
{
	bool self = lapic == message->sender;

	switch (message->shorthand) {
	case SHORTHAND_SELF:
		return self && message->mode == DELIVER_FIXED;
	case SHORTHAND_ALL:
		return !self || message->mode < DELIVER_INIT;
	default:
		return !self;
	}
}

/* A vCPU's id is its number. An APIC that is switched off is not on the bus. */
static bool is_for(struct lapic *lapic, const struct message *message)
{
	u32 mode = atomic_load(&lapic->mode), destination = message->destination;
	u32 ldr = atomic_load(&lapic->ldr), id = ldr >> LDR_SHIFT;

	if (mode == APIC_OFF)
		return false;
	if (message->shorthand != SHORTHAND_NONE)
		return is_for_shorthand(lapic, message);
	if (destination == message->broadcast)
		return true;
	if (!message->logical)
		return destination == lapic->vcpu->index;
	if (mode == APIC_X2APIC)
		return destination >> 16 == ldr >> 16 && (destination & ldr & 0xffff);
	if (atomic_load(&lapic->dfr) >> DFR_SHIFT == DFR_FLAT)
		return id & destination;
	return (id & 0xf0) == (destination & 0xf0) && (id & destination & 0xf);
}

/* To whom it costs the least, as far as it has told us. */
static void deliver_to_lowest(struct soft *soft, const struct message *message)
{
	struct lapic *best = NULL;

	for (unsigned i = 0; i < soft->vcpus_added; i++) {
		struct lapic *lapic = soft->vcpus[i]->lapic;

		if (!is_for(lapic, message) || !(atomic_load(&lapic->svr) & SVR_ENABLE))
			continue;
		if (!best || atomic_load(&lapic->tpr) < atomic_load(&best->tpr))
			best = lapic;
	}
	if (best)
		deliver(best, message);
}

static void send(struct soft *soft, const struct message *message)
{
	if (message->lowest) {
		deliver_to_lowest(soft, message);
		return;
	}
	for (unsigned i = 0; i < soft->vcpus_added; i++)
		if (is_for(soft->vcpus[i]->lapic, message))
			deliver(soft->vcpus[i]->lapic, message);
}

void lapic_message(struct soft *soft, u64 address, u32 data)
{
	struct message message = {
		.destination = address >> MSI_DEST_SHIFT & MSI_DEST,
		.broadcast = BROADCAST,
		.logical = address & MSI_LOGICAL,
		.vector = data & ICR_VECTOR,
		.mode = data >> ICR_MODE_SHIFT & 7,
		.level = data & ICR_LEVEL,
	};

	/* A device is told by the guest where to write; elsewhere nobody listens. */
	if (address >> MSI_WINDOW_SHIFT != LAYOUT_LAPIC >> MSI_WINDOW_SHIFT)
		return;
	if (message.level && !(data & ICR_ASSERT))
		return;
	message.lowest = message.mode == DELIVER_LOWEST ||
			 (message.mode == DELIVER_FIXED && address & MSI_REDIRECT_HINT);
	send(soft, &message);
}

static void send_command(struct lapic *lapic)
{
	u32 command = lapic->icr, destination = lapic->icr >> 32;
	bool x2 = atomic_load(&lapic->mode) == APIC_X2APIC;
	struct message message = {
		.sender = lapic,
		.shorthand = command >> ICR_SHORTHAND_SHIFT & 3,
		.destination = x2 ? destination : destination >> LDR_SHIFT,
		.broadcast = x2 ? BROADCAST_X2 : BROADCAST,
		.logical = command & ICR_LOGICAL,
		.vector = command & ICR_VECTOR,
		.mode = command >> ICR_MODE_SHIFT & 7,
	};

	message.lowest = message.mode == DELIVER_LOWEST;
	if (message.mode <= DELIVER_LOWEST && message.vector < VECTOR_FIRST) {
		report_error(lapic, ERROR_SEND_ILLEGAL);
		return;
	}
	/*
	 * INIT's other half, "level de-assert": Pentium processors synchronised their arbitration
	 * by it, and all since take no notice.
	 */
	if (message.mode == DELIVER_INIT && command & ICR_LEVEL && !(command & ICR_ASSERT))
		return;
	send(lapic->vcpu->soft, &message);
}

/* ------------------------------------------------------------------ timer */

static unsigned timer_mode(const struct lapic *lapic)
{
	return (lapic->lvt[LVT_TIMER] & LVT_MODE) >> LVT_MODE_SHIFT;
}

/* Intel SDM 3A, "Divide Configuration Register": bits 3, 1 and 0; 7 is 1, 0 is 2, 1 is 4. */
static unsigned divide_shift(u32 divide)
{
	return ((divide >> 1 & 4) + (divide & 3) + 1) & 7;
}

static u64 period_ns(const struct lapic *lapic)
{
	return (u64)lapic->initial << divide_shift(lapic->divide);
}

static u64 elapsed_ns(const struct lapic *lapic)
{
	return clock_tsc_to_ns(lapic->vcpu->soft, clock_tsc() - lapic->started);
}

static u64 guest_tsc(const struct lapic *lapic)
{
	return clock_tsc() + lapic->vcpu->tsc_adjust;
}

static void timer_ring(struct lapic *lapic)
{
	if (!(lapic->lvt[LVT_TIMER] & LVT_MASKED))
		request(lapic, lapic->lvt[LVT_TIMER] & LVT_VECTOR, false);
}

/*
 * Has it rung since we last looked? A periodic timer whose vCPU was kept off the host's CPU for
 * many periods rings once, and is in phase ever after.
 */
static void timer_look(struct lapic *lapic)
{
	u64 periods;

	if (timer_mode(lapic) == TIMER_DEADLINE) {
		if (!lapic->deadline || guest_tsc(lapic) < lapic->deadline)
			return;
		lapic->deadline = 0;
		timer_ring(lapic);
		return;
	}
	if (!lapic->counting)
		return;
	periods = elapsed_ns(lapic) / period_ns(lapic);
	if (periods == lapic->periods)
		return;
	lapic->periods = periods;
	lapic->counting = timer_mode(lapic) == TIMER_PERIODIC;
	timer_ring(lapic);
}

/* When it rings next, by the host's TSC. */
static u64 timer_next(const struct lapic *lapic)
{
	u64 ns;

	if (lapic->lvt[LVT_TIMER] & LVT_MASKED)
		return NEVER;
	if (timer_mode(lapic) == TIMER_DEADLINE)
		return lapic->deadline ? lapic->deadline - lapic->vcpu->tsc_adjust : NEVER;
	if (!lapic->counting)
		return NEVER;
	ns = (lapic->periods + 1) * period_ns(lapic);
	/* One tick more, for what is rounded off. */
	return lapic->started + 1 + clock_ns_to_tsc(lapic->vcpu->soft, ns);
}

/*
 * Set the host's timer to that moment: a system call, so not if it is set already. It was set as
 * a distance, and may have rung early for the reason given above; then it is set anew for the rest.
 */
static void timer_arm(struct lapic *lapic)
{
	struct vcpu *vcpu = lapic->vcpu;
	u64 now = clock_tsc(), next = timer_next(lapic), span, left = 0;
	struct itimerspec spec = {.it_value = {0}};

	if (!vcpu->tid)
		return;
	span = lapic->armed_for - lapic->armed_since;
	if (next == lapic->armed_for &&
	    (next == NEVER || now - lapic->armed_since < span - span / CLOCK_AGREEMENT))
		return;
	if (next != NEVER) {
		/* 0 would switch it off. */
		left = 1 + clock_tsc_to_ns(vcpu->soft, next > now ? next - now : 0);
		if (timer_mode(lapic) == TIMER_PERIODIC)
			left = MAX(left, PERIOD_MIN_NS);
		spec.it_value.tv_sec = left / 1000000000u;
		spec.it_value.tv_nsec = left % 1000000000u;
	}
	lapic->armed_for = next;
	lapic->armed_since = now;
	vectors_save(vcpu);
	timer_settime(vcpu->timer, 0, &spec, NULL);
}

static void timer_update(struct lapic *lapic)
{
	timer_look(lapic);
	timer_arm(lapic);
}

static u32 timer_current(const struct lapic *lapic)
{
	unsigned shift = divide_shift(lapic->divide);
	u64 elapsed;

	if (!lapic->counting)
		return 0;
	elapsed = elapsed_ns(lapic);
	if (timer_mode(lapic) == TIMER_PERIODIC)
		elapsed %= period_ns(lapic);
	else if (elapsed >= period_ns(lapic))
		return 0;
	return lapic->initial - (elapsed >> shift);
}

/* As if it had begun with the running period, and with that divisor. */
static void timer_rebase(struct lapic *lapic, u32 divide)
{
	u64 gone = lapic->initial - timer_current(lapic);

	lapic->divide = divide;
	lapic->periods = 0;
	lapic->started =
		clock_tsc() - clock_ns_to_tsc(lapic->vcpu->soft, gone << divide_shift(divide));
}

static void timer_stop(struct lapic *lapic)
{
	lapic->counting = false;
	lapic->initial = 0;
	lapic->deadline = 0;
}

/* Intel SDM 3A, "TSC-Deadline Mode": going there, or leaving, disarms. */
static void timer_set_lvt(struct lapic *lapic, u32 value)
{
	unsigned before, after;

	timer_look(lapic);
	before = timer_mode(lapic);
	if (lapic->counting && (lapic->lvt[LVT_TIMER] ^ value) & LVT_MODE)
		timer_rebase(lapic, lapic->divide);
	lapic->lvt[LVT_TIMER] = value;
	after = timer_mode(lapic);
	if (before != after && (before == TIMER_DEADLINE || after == TIMER_DEADLINE))
		timer_stop(lapic);
	timer_arm(lapic);
}

static void timer_set_initial(struct lapic *lapic, u32 value)
{
	if (timer_mode(lapic) == TIMER_DEADLINE)
		return;
	lapic->initial = value;
	lapic->counting = value != 0;
	lapic->started = clock_tsc();
	lapic->periods = 0;
	timer_update(lapic);
}

static void timer_set_divide(struct lapic *lapic, u32 value)
{
	timer_look(lapic);
	if (lapic->counting)
		timer_rebase(lapic, value);
	else
		lapic->divide = value;
	timer_arm(lapic);
}

void lapic_set_deadline(struct vcpu *vcpu, u64 tsc)
{
	struct lapic *lapic = vcpu->lapic;

	if (timer_mode(lapic) != TIMER_DEADLINE)
		return;
	lapic->deadline = tsc;
	timer_update(lapic);
}

u64 lapic_deadline(struct vcpu *vcpu)
{
	struct lapic *lapic = vcpu->lapic;

	/* It reads 0 once it has passed, whether or not anybody has told the host's timer yet. */
	timer_look(lapic);
	return lapic->deadline;
}

/* ------------------------------------------------------------------ the vCPU's side */

/* Intel SDM 3A, "Task and Processor Priorities". */
static u8 processor_priority(const struct lapic *lapic)
{
	int vector = highest(lapic->in_service);
	u8 in_service = vector < 0 ? 0 : vector & 0xf0;
	u8 tpr = atomic_load(&lapic->tpr);

	return (tpr & 0xf0) >= in_service ? tpr : in_service;
}

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
	lapic->divide = 0;
	timer_stop(lapic);
	timer_arm(lapic);
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
		request(lapic, error_lvt & LVT_VECTOR, false);
	timer_update(lapic);
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
		timer_set_lvt(lapic, value);
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
		*value = timer_current(lapic);
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
		send_command(lapic);
		return true;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1:
		write_lvt(lapic, reg - REG_LVT, value);
		return true;
	case REG_INITIAL:
		timer_set_initial(lapic, value);
		return true;
	case REG_DIVIDE:
		timer_set_divide(lapic, value & DIVIDE_WRITABLE);
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
		report_error(lapic, ERROR_ILLEGAL_REGISTER);
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
			report_error(lapic, ERROR_ILLEGAL_REGISTER);
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
		request(lapic, value, false);
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

u64 lapic_base_get(struct vcpu *vcpu)
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
