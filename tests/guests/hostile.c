/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver that has gone mad, in full possession of its powers: it writes anything
 * that can be written into rings, descriptors, registers and configuration space of
 * every virtio device there is, while requests run; from two CPUs, if there are two.
 *
 * The device must not mind. Time and again all is reset, put back in place, and
 * asked an honest question; and a part of memory that no device was ever told of
 * must be as it was.
 *
 *   seed=N	which madness (1)
 *   rounds=N	how many acts of it, between two moments of sanity (10000)
 *
 * There is a limit to it, or the guest would only kill itself: wherever a device
 * could be made to write to memory, or to interrupt, it is the arena, which holds
 * nothing else, or memory that is not there, or an interrupt that nobody lets in. Two CPUs
 * that write halves of an address at once still cannot make another one of it: see somewhere().
 */
#include "lib/acpi.h"
#include "lib/cpus.h"
#include "lib/guest.h"
#include "lib/honest.h"
#include "lib/pci.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#define CANARY	   MiB(16) /* up to the arena: nobody's */
#define ARENA	   MiB(32)
#define ARENA_END  MiB(64)
#define SANITIES   4 /* moments of it */
#define QUEUE_SIZE 16
#define VICTIMS	   8

/* Where each victim's rings are, and a request's buffers; the rest of the arena is for all. */
#define RING_SPACE   KiB(16)
#define DRIVER_SPACE KiB(4) /* within, from its beginning */
#define DEVICE_SPACE KiB(8)
#define DRAFT_SPACE  KiB(12) /* what is copied into a packed ring */
#define SPACE	     (RINGS_MAX * RING_SPACE + KiB(16))

#define CONFIG_SIZE	 256
#define MSIX_ENTRY	 16
#define MSIX_TABLE_BAR	 1
#define MSIX_CHANCES	 4 /* entries that are written: all devices have no less */
#define REGISTERS_LENGTH 0x4000

#define RING_FEATURES (~0ull << VIRTIO_TRANSPORT_F_START)

struct victim {
	const struct device_type *type;
	struct virtio virtio;
	u64 offered;
	u64 space;
	u64 registers, messages; /* where its BARs were */
};

static struct victim victims[VICTIMS];
static unsigned victim_count;

/* Madness of a CPU. */
struct mind {
	u64 state;
};

static u8 stacks[1][STACK_SIZE] __attribute__((aligned(16)));
static struct mind second;
static volatile bool raving, second_raves, second_started;

/* xorshift64* */
static u32 any(struct mind *mind)
{
	mind->state ^= mind->state >> 12;
	mind->state ^= mind->state << 25;
	mind->state ^= mind->state >> 27;
	return (u32)(mind->state * 0x2545f4914f6cdd1dull >> 32);
}

static u32 below(struct mind *mind, u32 limit)
{
	return any(mind) % limit;
}

static bool one_in(struct mind *mind, u32 n)
{
	return !below(mind, n);
}

/*
 * An address: in the arena, or at its end, which is the end of RAM; or where there is no RAM.
 * Whatever low half is put together with whatever high half: it is one of those again.
 */
static u64 somewhere(struct mind *mind)
{
	switch (below(mind, 8)) {
	case 0:
		return ARENA_END - below(mind, 64);
	case 1:
		return 0xc0000000u | any(mind);
	case 2:
		return (u64)any(mind) << 32 | 0xc0000000u | any(mind);
	case 3: /* rings */
		return ARENA + below(mind, victim_count * SPACE);
	default:
		return ARENA + below(mind, ARENA_END - ARENA);
	}
}

static u64 somewhere_aligned(struct mind *mind)
{
	return one_in(mind, 4) ? somewhere(mind) : somewhere(mind) & ~15ull;
}

/* Mostly short; or so long that it does not fit into RAM. Console and disk have to live with it. */
static u32 some_length(struct mind *mind)
{
	static const u32 lengths[] = {0, 1, 2, 12, 16, 20, 512, 513, 4096, 0x80000000, 0xffffffff};

	if (one_in(mind, 3))
		return below(mind, 64);
	return lengths[below(mind, ARRAY_SIZE(lengths))];
}

static u16 some_flags(struct mind *mind)
{
	/* The last two are those of packed rings. */
	static const u16 flags[] = {VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_DESC_F_INDIRECT,
				    1 << 7, 1 << 15};
	u16 set = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
		if (one_in(mind, 3))
			set |= flags[i];
	return one_in(mind, 50) ? (u16)any(mind) : set;
}

static u16 queue_direction(const struct victim *victim, unsigned queue)
{
	return queue == victim->type->queue ? victim->type->direction : VRING_DESC_F_WRITE;
}

/* In the direction that the queue is for, more often than not: there are other rules to break. */
static void write_descriptor(struct mind *mind, const struct victim *victim,
			     const struct ring *ring, volatile struct vring_desc *desc)
{
	u16 flags = some_flags(mind);

	if (victim->type->bit != BLOCK && !one_in(mind, 10))
		flags = (flags & ~VRING_DESC_F_WRITE) | queue_direction(victim, ring->index);
	desc->addr = somewhere(mind);
	desc->len = some_length(mind);
	desc->flags = flags;
	desc->next = (u16)(one_in(mind, 20) ? any(mind) : below(mind, QUEUE_SIZE + 1));
}

/* The rings of a victim, wherever its driver believes them to be. */
static struct ring *some_ring(struct mind *mind, struct victim *victim)
{
	return &victim->virtio.rings[below(mind, victim->virtio.queue_count)];
}

/* A slot of a packed ring: at times one that looks as if it came next. */
static void write_slot(struct mind *mind, const struct victim *victim, const struct ring *ring)
{
	volatile struct vring_packed_desc *slot = &ring->slots[below(mind, QUEUE_SIZE)];
	struct vring_desc desc;

	write_descriptor(mind, victim, ring, &desc);
	slot->addr = desc.addr;
	slot->len = desc.len;
	slot->id = desc.next;
	slot->flags = one_in(mind, 2) ? desc.flags : ring_marked_flags(ring, desc.flags & 7);
}

static void scribble_descriptors(struct mind *mind, struct victim *victim)
{
	struct ring *ring = some_ring(mind, victim);

	for (unsigned n = below(mind, 6); n; n--) {
		if (ring->packed && one_in(mind, 2))
			write_slot(mind, victim, ring);
		else
			write_descriptor(mind, victim, ring, &ring->desc[below(mind, QUEUE_SIZE)]);
	}
}

/* One that points to a table, and the table: good ones among them. */
static void scribble_table(struct mind *mind, struct victim *victim)
{
	struct ring *ring = some_ring(mind, victim);
	const u64 table = somewhere_aligned(mind);
	const u32 entries = below(mind, QUEUE_SIZE + 2);
	struct vring_desc *desc = &ring->desc[below(mind, QUEUE_SIZE)];

	if (table >= ARENA && table + entries * sizeof(*desc) <= ARENA_END)
		for (u32 i = 0; i < entries; i++)
			write_descriptor(mind, victim, ring, (struct vring_desc *)table + i);
	desc->addr = table;
	desc->len = one_in(mind, 8) ? some_length(mind) : entries * (u32)sizeof(*desc);
	desc->flags = VRING_DESC_F_INDIRECT;
}

static void scribble_events(struct mind *mind, struct ring *ring)
{
	volatile struct vring_packed_desc_event *event =
		one_in(mind, 2) ? ring->driver_event : ring->device_event;

	event->off_wrap = (u16)any(mind);
	event->flags = (u16)(one_in(mind, 8) ? any(mind) : below(mind, 4));
}

static void scribble_rings(struct mind *mind, struct victim *victim)
{
	struct ring *ring = some_ring(mind, victim);

	if (ring->packed) {
		scribble_events(mind, ring);
		return;
	}
	switch (below(mind, 6)) {
	case 0:
		ring->avail->idx = (u16)any(mind);
		break;
	case 1:
		ring->avail->flags = (u16)below(mind, 3);
		break;
	case 2:
		*ring_used_event(ring) = (u16)any(mind);
		break;
	case 3:
		*ring_avail_event(ring) = (u16)any(mind);
		break;
	case 4:
		ring->used->idx = (u16)any(mind);
		ring->used->flags = (u16)any(mind);
		break;
	default:
		ring->avail->ring[below(mind, QUEUE_SIZE)] = (u16)below(mind, QUEUE_SIZE + 1);
	}
}

static void kick(const struct victim *victim, unsigned queue)
{
	write16(victim->virtio.notify.address + queue * victim->virtio.notify_multiplier,
		(u16)queue);
}

/* So that not everything is refused: the driver's own part is in order, as far as it goes. */
static void offer_some(struct mind *mind, struct victim *victim)
{
	struct ring *ring = some_ring(mind, victim);

	for (unsigned n = below(mind, 4) + 1; n; n--)
		ring_offer(ring, (u16)below(mind, QUEUE_SIZE));
	kick(victim, ring->index);
}

static void ask_honestly(struct mind *mind, struct victim *victim)
{
	const struct device_type *type = victim->type;
	struct ring *ring = &victim->virtio.rings[type->queue];

	(void)mind;
	type->prepare(ring, (void *)(victim->space + RINGS_MAX * RING_SPACE));
	ring_offer(ring, 0);
	kick(victim, type->queue);
}

static void notify_something(struct mind *mind, struct victim *victim)
{
	const u64 at = victim->virtio.notify.address + below(mind, 64);

	switch (below(mind, 4)) {
	case 0:
		write8(at, (u8)any(mind));
		break;
	case 1:
		write32(at, any(mind));
		break;
	case 2:
		write64(at, any(mind));
		break;
	default:
		kick(victim, below(mind, 4));
	}
}

/* A value for a register of 32 bits, which may be half an address. */
static u32 some_word(struct mind *mind)
{
	return one_in(mind, 2) ? (u32)somewhere(mind) : any(mind) | 0xc0000000;
}

static void write_common(struct mind *mind, struct victim *victim)
{
	const struct virtio *v = &victim->virtio;

	switch (below(mind, 12)) {
	case 0:
		virtio_write8(v, VIRTIO_PCI_COMMON_STATUS, (u8)any(mind));
		break;
	case 1:
		virtio_write8(v, VIRTIO_PCI_COMMON_STATUS,
			      virtio_status(v) | (u8)(1 << below(mind, 8)));
		break;
	case 2:
		virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, (u16)below(mind, 4));
		break;
	case 3:
		virtio_write16(v, VIRTIO_PCI_COMMON_Q_SIZE, (u16)(1 << below(mind, 16)));
		break;
	case 4:
		virtio_write16(v, VIRTIO_PCI_COMMON_Q_ENABLE, (u16)below(mind, 3));
		break;
	case 5:
		virtio_write16(v, VIRTIO_PCI_COMMON_Q_RESET, (u16)below(mind, 3));
		break;
	case 6:
		virtio_write32(v, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * below(mind, 6), some_word(mind));
		break;
	case 7:
		virtio_write32(v, VIRTIO_PCI_COMMON_GFSELECT, below(mind, 3));
		virtio_write32(v, VIRTIO_PCI_COMMON_GF, any(mind));
		break;
	case 8:
		virtio_write16(v, VIRTIO_PCI_COMMON_Q_MSIX, (u16)below(mind, 6));
		break;
	case 9:
		virtio_write8(v, below(mind, 64), (u8)any(mind));
		break;
	case 10:
		virtio_write16(v, below(mind, 64), (u16)any(mind));
		break;
	default:
		virtio_write32(v, below(mind, 64), some_word(mind));
	}
}

static void read_something(struct mind *mind, struct victim *victim)
{
	const u64 at = victim->registers + below(mind, one_in(mind, 4) ? REGISTERS_LENGTH - 8
								       : VIRTIO_PCI_COMMON_Q_RESET);

	switch (below(mind, 4)) {
	case 0:
		read8(at);
		break;
	case 1:
		read16(at);
		break;
	case 2:
		read32(at);
		break;
	default:
		read64(at);
	}
}

/* The device's own configuration, and the ISR. */
static void write_configuration(struct mind *mind, struct victim *victim)
{
	const struct virtio *v = &victim->virtio;
	const u64 at = v->config.address && !one_in(mind, 8) ? v->config.address : v->isr.address;

	switch (below(mind, 3)) {
	case 0:
		write8(at + below(mind, 64), (u8)any(mind));
		break;
	case 1:
		write16(at + below(mind, 32) * 2, (u16)any(mind));
		break;
	default:
		write32(at + below(mind, 16) * 4, any(mind));
	}
}

/*
 * To nobody or to one of us, with a vector that is not let in: but never one of those kinds (NMI,
 * INIT and the like) that ask for no leave.
 */
static void write_message(struct mind *mind, struct victim *victim)
{
	const u64 entry = victim->messages + MSIX_ENTRY * below(mind, MSIX_CHANCES);

	switch (below(mind, 4)) {
	case 0:
		write32(entry, one_in(mind, 2) ? LAYOUT_LAPIC | below(mind, 4) << 12 : any(mind));
		break;
	case 1:
		write32(entry + 4, one_in(mind, 2) ? 0 : any(mind));
		break;
	case 2:
		write32(entry + 8, 0x20 + below(mind, 0xe0));
		break;
	default:
		write32(entry + 12, below(mind, 2));
	}
}

/* Base addresses: never one that was another's. */
static void move_bar(struct mind *mind, struct victim *victim)
{
	const unsigned bar = below(mind, 2);
	const u64 was = bar ? victim->messages : victim->registers;
	const u32 places[] = {
		0,	    0xffffffff,	       (u32)was,	  (u32)was + 0x10000000,
		(u32)ARENA, (u32)LAYOUT_LAPIC, (u32)LAYOUT_IOAPIC};

	pci_write32(victim->virtio.slot, PCI_BASE_ADDRESS_0 + 4 * bar,
		    places[below(mind, ARRAY_SIZE(places))]);
}

static void write_config_space(struct mind *mind, struct victim *victim)
{
	const unsigned slot = victim->virtio.slot, at = below(mind, CONFIG_SIZE) & ~3u;
	const unsigned data = victim->virtio.window + sizeof(struct virtio_pci_cap);

	if (at >= PCI_BASE_ADDRESS_0 && at <= PCI_BASE_ADDRESS_1)
		move_bar(mind, victim);
	else if (at == data)
		pci_write32(slot, at, some_word(mind));
	else if (one_in(mind, 3))
		pci_write8(slot, at + below(mind, 4), (u8)any(mind));
	else if (one_in(mind, 2))
		pci_write16(slot, at + 2 * below(mind, 2), (u16)any(mind));
	else
		pci_write32(slot, at, any(mind));
}

static void use_window(struct mind *mind, struct victim *victim)
{
	const struct virtio *v = &victim->virtio;

	if (one_in(mind, 4))
		window_set(v, (u8)below(mind, 3), any(mind), below(mind, 9));
	else
		window_set(v, 0, below(mind, REGISTERS_LENGTH), 1 << below(mind, 4));
	if (one_in(mind, 2))
		pci_read32(v->slot, v->window + sizeof(struct virtio_pci_cap));
	else
		pci_write32(v->slot, v->window + sizeof(struct virtio_pci_cap), some_word(mind));
}

/* Configuration space as the board had it; the rest of what was done to it does no harm. */
static void put_back(const struct victim *victim)
{
	const unsigned slot = victim->virtio.slot;
	const unsigned msix = pci_find_capability(slot, PCI_CAP_ID_MSIX, 0);

	pci_write32(slot, PCI_BASE_ADDRESS_0, (u32)victim->registers);
	pci_write32(slot, PCI_BASE_ADDRESS_1, (u32)victim->messages);
	pci_write16(slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	pci_write16(slot, msix + PCI_MSIX_FLAGS, 0);
}

static void write_address(const struct virtio *v, u32 field, u64 address)
{
	virtio_write32(v, field, (u32)address);
	virtio_write32(v, field + 4, (u32)(address >> 32));
}

/* Empty rings in the arena, of either kind. */
static void lay_out(struct victim *victim, unsigned queue, bool packed)
{
	struct virtio *v = &victim->virtio;
	const u64 at = victim->space + queue * RING_SPACE;

	struct ring fresh = {
		.index = queue,
		.size = QUEUE_SIZE,
		.packed = packed,
		.desc = (void *)(at + (packed ? DRAFT_SPACE : 0)),
		.avail = (void *)(at + DRIVER_SPACE),
		.used = (void *)(at + DEVICE_SPACE),
		.slots = (void *)at,
		.driver_event = (void *)(at + DRIVER_SPACE),
		.device_event = (void *)(at + DEVICE_SPACE),
		.wrap = true,
		.used_wrap = true,
	};

	memset((void *)at, 0, RING_SPACE);
	/* All at once: the other CPU divides by its size, at any time. */
	asm volatile("" : "+m"(fresh));
	v->rings[queue] = fresh;
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, (u16)queue);
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SIZE, QUEUE_SIZE);
	write_address(v, VIRTIO_PCI_COMMON_Q_DESCLO, at);
	write_address(v, VIRTIO_PCI_COMMON_Q_AVAILLO, at + DRIVER_SPACE);
	write_address(v, VIRTIO_PCI_COMMON_Q_USEDLO, at + DEVICE_SPACE);
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
}

/* From the beginning to DRIVER_OK. Whether it gets there is another matter: see who else is at it.
 */
static void bring_up(struct victim *victim, u64 features)
{
	struct virtio *v = &victim->virtio;

	put_back(victim);
	virtio_write8(v, VIRTIO_PCI_COMMON_STATUS, 0);
	virtio_add_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(v, VIRTIO_CONFIG_S_DRIVER);
	virtio_accept(v, features);
	virtio_add_status(v, VIRTIO_CONFIG_S_FEATURES_OK);
	virtio_status(v);
	for (unsigned i = 0; i < v->queue_count; i++)
		lay_out(victim, i, features & FEATURE(VIRTIO_F_RING_PACKED));
	virtio_add_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Features of a device may depend on one another, those of rings do not: half of the time, none of
 * it. */
static void begin_again(struct mind *mind, struct victim *victim)
{
	const u64 wanted = (u64)any(mind) << 32 | any(mind);

	if (one_in(mind, 8))
		bring_up(victim, wanted);
	else
		bring_up(victim,
			 (victim->offered & wanted & (one_in(mind, 2) ? RING_FEATURES : ~0ull)) |
				 FEATURE(VIRTIO_F_VERSION_1));
}

/* One act. Those that come several times are more frequent. */
static void rave(struct mind *mind)
{
	static void (*const acts[])(struct mind *, struct victim *) = {
		scribble_descriptors, scribble_descriptors, scribble_descriptors,
		scribble_descriptors, scribble_table,	    scribble_table,
		scribble_rings,	      offer_some,	    offer_some,
		offer_some,	      offer_some,	    offer_some,
		ask_honestly,	      ask_honestly,	    ask_honestly,
		notify_something,     write_common,	    write_configuration,
		read_something,	      write_message,	    write_config_space,
		use_window,	      begin_again,	    begin_again,
		begin_again,
	};

	acts[below(mind, ARRAY_SIZE(acts))](mind, &victims[below(mind, victim_count)]);
}

/* The second CPU: mad whenever the first one is. */
void ap_main(void)
{
	second_started = true;
	for (;;) {
		second_raves = true;
		__sync_synchronize();
		if (raving)
			rave(&second);
		second_raves = false;
		while (!raving)
			pause();
	}
}

static void start_second(void)
{
	interrupt_init();
	interrupts_off();
	cpus_prepare(stacks);
	cpu_send_init(1);
	linger();
	cpu_send_startup(1);
	check(wait_for(second_started), "the second CPU starts");
}

static void find_victims(void)
{
	for (unsigned slot = 0; slot < PCI_SLOTS && victim_count < VICTIMS; slot++) {
		const u16 id = pci_read16(slot, PCI_DEVICE_ID);
		struct victim *victim = &victims[victim_count];

		if (pci_read16(slot, PCI_VENDOR_ID) != VIRTIO_VENDOR || id < VIRTIO_FIRST_MODERN)
			continue;
		victim->type = device_type_of(id - VIRTIO_FIRST_MODERN);
		if (!victim->type)
			continue;
		virtio_find(&victim->virtio, slot);
		victim->registers = pci_bar(slot, 0);
		victim->messages = pci_bar(slot, MSIX_TABLE_BAR);
		victim->offered = virtio_offered(&victim->virtio);
		victim->space = ARENA + victim_count * SPACE;
		victim_count++;
		print("victim: %s in slot %u\n", victim->type->name, slot);
	}
}

static u64 canary_song(const u64 *at)
{
	return (u64)at * 0x9e3779b97f4a7c15ull;
}

static void set_canary(void)
{
	for (u64 *at = (u64 *)CANARY; at < (u64 *)ARENA; at++)
		*at = canary_song(at);
}

static void check_canary(void)
{
	const u64 *at = (const u64 *)CANARY;

	while (at < (const u64 *)ARENA && *at == canary_song(at))
		at++;
	check(at == (const u64 *)ARENA, "memory that no device knows of is as it was (up to %lx)",
	      (u64)at);
}

static void recover(struct victim *victim, u64 features)
{
	struct virtio *v = &victim->virtio;

	put_back(victim);
	check(virtio_reset(v), "%s: a reset ends", victim->type->name);
	bring_up(victim, features);
	check_equal(virtio_status(v),
		    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			    VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK,
		    "%s: it can be driven again", victim->type->name);
	check(device_works(victim->type, v, (void *)(victim->space + RINGS_MAX * RING_SPACE)),
	      "%s: and serves", victim->type->name);
}

static u64 number(const struct boot *boot, const char *name, u64 otherwise)
{
	char text[16];
	u64 value = 0;

	if (!boot_option(boot, name, text, sizeof(text)))
		return otherwise;
	for (const char *digit = text; *digit; digit++)
		value = value * 10 + (u64)(*digit - '0');
	return value;
}

void guest_main(const struct boot *boot)
{
	const u64 rounds = number(boot, "rounds", 10000);
	struct mind mind = {number(boot, "seed", 1) * 0x9e3779b97f4a7c15ull | 1};

	if (boot_ram_end(boot) != ARENA_END)
		give_up("there are 64 MiB of RAM");
	find_victims();
	set_canary();
	second.state = ~mind.state;
	for (unsigned i = 0; i < victim_count; i++)
		bring_up(&victims[i], FEATURE(VIRTIO_F_VERSION_1));
	if (acpi_cpu_count(boot) > 1)
		start_second();
	for (unsigned i = 0; i < SANITIES; i++) {
		raving = true;
		for (u64 round = 0; round < rounds; round++)
			rave(&mind);
		raving = false;
		__sync_synchronize();
		while (second_raves)
			pause();
		for (unsigned j = 0; j < victim_count; j++)
			recover(&victims[j], FEATURE(VIRTIO_F_VERSION_1) |
						     (i % 2 ? FEATURE(VIRTIO_F_RING_PACKED) : 0));
		check_canary();
	}
}
