/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O APIC: devices pull wires, CPUs receive messages, and this is where
 * the one becomes the other.
 *
 * What it looks like to the guest is in Intel's "82093AA I/O Advanced Programmable
 * Interrupt Controller (IOAPIC)", 1996, with the EOI register that later chips
 * (version 0x20) have: a window of two registers, through which 24 redirection
 * entries are written, one a pin. An entry says which interrupt to send where; a
 * pin is either
 *
 * - edge-triggered: the wire's rising sends, once. If the entry is masked at that
 *   moment, it is as if nothing had happened, now and later (82093AA, "Interrupt
 *   Mask": an edge on a masked pin is neither delivered nor held pending). Linux
 *   knows, and does not mask an edge that it still wants. Or it is
 * - level-triggered: while the wire is up, the interrupt is due. "Remote IRR" in the
 *   entry remembers that it was sent and is being handled; when the handling CPU
 *   says it is done (ioapic_eoi()), it is sent again if the wire is still up.
 *
 * Several devices may share a wire, so a pin counts who pulls it: a bit each.
 * We do not care for the polarity bit: devices say "asserted", not "high".
 *
 * The message is put together as Intel's SDM, volume 3, "Message Signalled
 * Interrupts" has it, and handed to the engine after the lock was dropped. On some
 * engines (KVM with a split irqchip) the kernel must also know what the pins
 * would send, because only then does it tell us of EOIs: it is told of each change.
 *
 * Tour 3.210
 */
#include "board/ioapic.h"

#include <string.h>

/* Offsets in the region. */
#define IOREGSEL 0x00
#define IOWIN	 0x10
#define IOEOI	 0x40

/* Values of IOREGSEL. The entries are two registers each, the low half first. */
#define INDEX_ID	  0x00
#define INDEX_VERSION	  0x01
#define INDEX_ARBITRATION 0x02
#define INDEX_ENTRIES	  0x10

#define VERSION	      0x20u /* the first that has the EOI register */
#define VERSION_VALUE (VERSION | (GSI_COUNT - 1) << 16)
#define ID_SHIFT      24
#define ID_MASK	      0xfu

/* The redirection entry. */
#define ENTRY_VECTOR	 0xffull
#define ENTRY_MODE_SHIFT 8
#define ENTRY_MODE	 (7ull << ENTRY_MODE_SHIFT)
#define ENTRY_LOGICAL	 (1ull << 11)
#define ENTRY_STATUS	 (1ull << 12)
#define ENTRY_REMOTE_IRR (1ull << 14)
#define ENTRY_LEVEL	 (1ull << 15)
#define ENTRY_MASKED	 (1ull << 16)
#define ENTRY_DEST_SHIFT 56
#define ENTRY_READ_ONLY	 (ENTRY_STATUS | ENTRY_REMOTE_IRR)
/* The bits that exist: up to the mask, and the destination. */
#define ENTRY_IMPLEMENTED (0x1ffffull | 0xffull << ENTRY_DEST_SHIFT)
/* What the message consists of, and with it the route. */
#define ENTRY_ROUTE (ENTRY_IMPLEMENTED & ~ENTRY_READ_ONLY)

/* Delivery modes. */
#define MODE_FIXED  0
#define MODE_LOWEST 1

/* Where the parts of a message go. */
#define MSI_DEST_SHIFT	  12
#define MSI_REDIRECT_HINT (1u << 3)
#define MSI_LOGICAL	  (1u << 2)
#define MSI_MODE_SHIFT	  8
#define MSI_ASSERT	  (1u << 14)
#define MSI_LEVEL	  (1u << 15)

struct message {
	u64 address;
	u32 data;
};

/* What is to be sent once the lock is dropped: at most one message a pin. */
struct outbox {
	unsigned count;
	struct message messages[GSI_COUNT];
};

static unsigned entry_mode(u64 entry)
{
	return (entry & ENTRY_MODE) >> ENTRY_MODE_SHIFT;
}

/*
 * NMI, INIT and the like are edges whatever the trigger bit says (82093AA, "Delivery
 * Mode"). No CPU ends them with an EOI, so a remote IRR would stay for ever.
 */
static bool entry_is_level(u64 entry)
{
	unsigned mode = entry_mode(entry);

	return (entry & ENTRY_LEVEL) && (mode == MODE_FIXED || mode == MODE_LOWEST);
}

/*
 * Sixty-four bits that the guest has programmed, put into the two words of a message: whom it
 * is for, and what it says. From here on it is as if the device had sent it itself.
 *
 * Tour 3.211: A wire becomes a message
 */
static struct message entry_message(u64 entry)
{
	struct message message = {
		.address = LAYOUT_LAPIC | (u64)(entry >> ENTRY_DEST_SHIFT) << MSI_DEST_SHIFT,
		.data = (entry & ENTRY_VECTOR) | entry_mode(entry) << MSI_MODE_SHIFT,
	};

	if (entry & ENTRY_LOGICAL)
		message.address |= MSI_LOGICAL;
	if (entry_mode(entry) == MODE_LOWEST)
		message.address |= MSI_REDIRECT_HINT;
	if (entry_is_level(entry))
		message.data |= MSI_ASSERT | MSI_LEVEL;
	return message;
}

static void outbox_add(struct outbox *outbox, u64 entry)
{
	outbox->messages[outbox->count++] = entry_message(entry);
}

/* With the lock dropped: the engine may have work of its own to do, and locks of its own. */
static void outbox_send(const struct outbox *outbox, struct engine *engine)
{
	if (!engine)
		return;
	for (unsigned i = 0; i < outbox->count; i++)
		engine->ops->msi(engine, outbox->messages[i].address, outbox->messages[i].data);
}

/*
 * A level-triggered pin sends if it is asserted, may, and is not being handled already. Lock held.
 *
 * Tour 3.212: Interrupts with levels
 */
static void level_update(struct ioapic_pin *pin, struct outbox *outbox)
{
	if (!entry_is_level(pin->entry) || !pin->sources)
		return;
	if (pin->entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR))
		return;
	pin->entry |= ENTRY_REMOTE_IRR;
	outbox_add(outbox, pin->entry);
}

/* Lock held. */
static void tell_route(struct ioapic *ioapic, unsigned index)
{
	struct engine *engine = ioapic->engine;
	u64 entry = ioapic->pins[index].entry;
	struct message message = entry_message(entry);

	if (engine && engine->ops->ioapic_route)
		engine->ops->ioapic_route(engine, index, message.address, message.data,
					  entry_is_level(entry), entry & ENTRY_MASKED);
}

/*
 * The guest wrote half of an entry. Entries are programmed in two halves, the mask being in the
 * lower: what is sent in between is the guest's own doing.
 */
static void write_entry(struct ioapic *ioapic, unsigned index, bool high, u32 value,
			struct outbox *outbox)
{
	struct ioapic_pin *pin = &ioapic->pins[index];
	u64 half = high ? 0xffffffff00000000ull : 0xffffffffull;
	u64 writable = ENTRY_ROUTE & half;
	u64 old = pin->entry;

	pin->entry = (old & ~writable) | ((high ? (u64)value << 32 : value) & writable);
	/*
	 * An edge has no remote IRR. Kernels for chips without the EOI register end an
	 * interrupt by making the entry an edge for a moment, and rely on this.
	 */
	if (!entry_is_level(pin->entry))
		pin->entry &= ~ENTRY_REMOTE_IRR;
	if ((pin->entry ^ old) & ENTRY_ROUTE)
		tell_route(ioapic, index);
	level_update(pin, outbox);
}

/* An interrupt of this vector was handled: by a local APIC's account, or the guest's. Lock held. */
static void end_of_interrupt(struct ioapic *ioapic, u8 vector, struct outbox *outbox)
{
	for (unsigned i = 0; i < GSI_COUNT; i++) {
		struct ioapic_pin *pin = &ioapic->pins[i];

		if (!(pin->entry & ENTRY_REMOTE_IRR) || (pin->entry & ENTRY_VECTOR) != vector)
			continue;
		pin->entry &= ~ENTRY_REMOTE_IRR;
		level_update(pin, outbox);
	}
}

static u32 read_indexed(const struct ioapic *ioapic)
{
	unsigned entry = ioapic->select - INDEX_ENTRIES;

	switch (ioapic->select) {
	case INDEX_ID:
	case INDEX_ARBITRATION:
		/*
		 * The arbitration id is loaded with the id, and there is no bus on which to
		 * arbitrate.
		 */
		return (u32)ioapic->id << ID_SHIFT;
	case INDEX_VERSION:
		return VERSION_VALUE;
	}
	if (entry / 2 >= GSI_COUNT)
		return 0;
	return ioapic->pins[entry / 2].entry >> (entry % 2 ? 32 : 0);
}

static void write_indexed(struct ioapic *ioapic, u32 value, struct outbox *outbox)
{
	unsigned entry = ioapic->select - INDEX_ENTRIES;

	if (ioapic->select == INDEX_ID)
		ioapic->id = value >> ID_SHIFT & ID_MASK;
	else if (entry / 2 < GSI_COUNT)
		write_entry(ioapic, entry / 2, entry % 2, value, outbox);
}

/*
 * The registers are 32 bits wide, and drivers access them so. Only the selector has no more than
 * eight that mean anything, and firmware (EDK2) writes just those: it takes any width. All else
 * reads 0 and does nothing.
 */
static bool access_fits(u64 offset, unsigned len)
{
	return len == 4 || offset == IOREGSEL;
}

static u64 ioapic_read(void *opaque, u64 offset, unsigned len)
{
	struct ioapic *ioapic = opaque;
	u32 value = 0;

	if (!access_fits(offset, len))
		return 0;
	pthread_mutex_lock(&ioapic->lock);
	if (offset == IOREGSEL)
		value = ioapic->select;
	else if (offset == IOWIN)
		value = read_indexed(ioapic);
	pthread_mutex_unlock(&ioapic->lock);
	return value;
}

static void ioapic_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct ioapic *ioapic = opaque;
	struct outbox outbox = {.count = 0};
	struct engine *engine;

	if (!access_fits(offset, len))
		return;
	pthread_mutex_lock(&ioapic->lock);
	engine = ioapic->engine;
	if (offset == IOREGSEL)
		ioapic->select = value;
	else if (offset == IOWIN)
		write_indexed(ioapic, value, &outbox);
	else if (offset == IOEOI)
		end_of_interrupt(ioapic, value, &outbox);
	pthread_mutex_unlock(&ioapic->lock);
	outbox_send(&outbox, engine);
}

static const struct region_ops ioapic_ops = {.read = ioapic_read, .write = ioapic_write};

void ioapic_init(struct ioapic *ioapic, struct bus *bus)
{
	memset(ioapic, 0, sizeof(*ioapic));
	pthread_mutex_init(&ioapic->lock, NULL);
	ioapic->region = (struct region){
		.base = LAYOUT_IOAPIC,
		.size = PAGE_SIZE,
		.ops = &ioapic_ops,
		.opaque = ioapic,
		.name = "IOAPIC",
	};
	ioapic_reset(ioapic, NULL);
	bus_add(bus, MEMORY, &ioapic->region);
}

void ioapic_destroy(struct ioapic *ioapic)
{
	pthread_mutex_destroy(&ioapic->lock);
}

void ioapic_reset(struct ioapic *ioapic, struct engine *engine)
{
	pthread_mutex_lock(&ioapic->lock);
	ioapic->engine = engine;
	ioapic->select = 0;
	ioapic->id = 0;
	for (unsigned i = 0; i < GSI_COUNT; i++) {
		ioapic->pins[i] = (struct ioapic_pin){.entry = ENTRY_MASKED};
		tell_route(ioapic, i);
	}
	pthread_mutex_unlock(&ioapic->lock);
}

/*
 * The two kinds of pins side by side. A level is looked at as a whole; an edge is the moment
 * in which the first one pulls.
 *
 * Tour 3.213: A device pulls its wire
 */
void ioapic_set(struct ioapic *ioapic, unsigned pin, unsigned source, bool asserted)
{
	struct ioapic_pin *wire = &ioapic->pins[pin];
	struct outbox outbox = {.count = 0};
	u64 bit = 1ull << source;
	struct engine *engine;
	bool was;

	pthread_mutex_lock(&ioapic->lock);
	engine = ioapic->engine;
	was = wire->sources != 0;
	wire->sources = asserted ? wire->sources | bit : wire->sources & ~bit;
	if (entry_is_level(wire->entry))
		level_update(wire, &outbox);
	else if (!was && wire->sources && !(wire->entry & ENTRY_MASKED))
		outbox_add(&outbox, wire->entry);
	pthread_mutex_unlock(&ioapic->lock);
	outbox_send(&outbox, engine);
}

void ioapic_eoi(struct ioapic *ioapic, u8 vector)
{
	struct outbox outbox = {.count = 0};
	struct engine *engine;

	pthread_mutex_lock(&ioapic->lock);
	engine = ioapic->engine;
	end_of_interrupt(ioapic, vector, &outbox);
	pthread_mutex_unlock(&ioapic->lock);
	outbox_send(&outbox, engine);
}
