/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages to local APICs: from devices (MSIs, the IOAPIC's), and from other vCPUs (the interrupt
 * command register). For whom one is, and what becomes of it there.
 *
 * They come from any thread. They only set bits that any thread may set, and kick the vCPU; all
 * else is its own thread's (lapic.c). What a message asks of the vCPU itself (NMI, INIT, SIPI)
 * waits in `events` for lapic_tick().
 *
 * Tour 6.604: Messages, and for whom they are
 */
#include "board/layout.h"
#include "engine/soft/lapic.h"

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

/* The vCPU's thread sees to it. */
static void notify(struct lapic *lapic, u32 event)
{
	atomic_fetch_or(&lapic->events, event);
	vcpu_kick(lapic->vcpu, POLL_INTERRUPT);
}

void lapic_report_error(struct lapic *lapic, u32 error)
{
	atomic_fetch_or(&lapic->errors, error);
	notify(lapic, EVENT_ERROR);
}

/*
 * Intel SDM 3A, "Local APIC State After It Has Been Software Disabled": then there are no
 * interrupts, but there is NMI. The trigger is there before the request is.
 *
 * Tour 6.605: An interrupt is a bit
 */
void lapic_request(struct lapic *lapic, u8 vector, bool level)
{
	unsigned word = vector / WORD_BITS;

	if (vector < VECTOR_FIRST) {
		lapic_report_error(lapic, ERROR_RECEIVE_ILLEGAL);
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
		lapic_request(lapic, message->vector, message->level);
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

void lapic_send_command(struct lapic *lapic)
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
		lapic_report_error(lapic, ERROR_SEND_ILLEGAL);
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
