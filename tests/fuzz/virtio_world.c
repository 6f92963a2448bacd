/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mad driver of virtio_world.h. Some of its steps do many things right at
 * once, or the rings would hardly ever be reached.
 */
#include "virtio_world.h"

#include "host/log.h"

#include <linux/virtio_config.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>

#define NOTIFY	 0x3000
#define ISR	 0x1000
#define PATIENCE 200 /* looks at a ring, before something else is done */

/* bring_up(): how */
enum {
	UP_EVENT_IDX = 0x01,
	UP_PACKED = 0x02,
	UP_INDIRECT = 0x04,
	UP_SMALL = 0x08,
	UP_MSIX = 0x10,
};

/* The first byte of an input. */
enum {
	RUN_STRICT = 0x01,
	RUN_POLITE = 0x02,
	RUN_DOWN = 0x04, /* it is all steps; otherwise the device is brought up first */
	RUN_LATER = 3,	 /* from here on: how it is to be brought up at the end */
};

static _Atomic unsigned lines;

/* What would be printed is formatted, and then only counted: these stand in for host/log.c. */

void log_set_verbose(bool verbose)
{
	(void)verbose;
}

bool log_is_verbose(void)
{
	return true;
}

static void format_line(const char *format, va_list args)
{
	char line[1024];
	int n = vsnprintf(line, sizeof(line), format, args);

	MUST(n > 0 && (size_t)n < sizeof(line) && !strchr(line, '\n'));
}

void log_line(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	format_line(format, args);
	va_end(args);
	lines++;
}

void log_verbose(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	format_line(format, args);
	va_end(args);
}

unsigned world_lines(void)
{
	return lines;
}

/* The engine */

static void fuzz_msi(struct engine *engine, u64 address, u32 data)
{
	(void)engine;
	(void)address;
	(void)data;
}

static struct notifier *fuzz_on_write(struct engine *engine, u64 gpa, unsigned len, int eventfd)
{
	struct world *world = container_of(engine, struct world, engine);

	MUST(len == 2 && gpa % 4 == 0 && eventfd >= 0);
	/* Not every engine can, every time. */
	if (gpa & 0x100000)
		return NULL;
	MUST((unsigned)++world->notifiers <= world->virtio->queue_count);
	return (struct notifier *)world;
}

static void fuzz_remove_notifier(struct engine *engine, struct notifier *notifier)
{
	struct world *world = container_of(engine, struct world, engine);

	MUST((struct world *)notifier == world);
	MUST(--world->notifiers >= 0);
}

static const struct engine_ops engine_ops = {
	.name = "fuzz",
	.msi = fuzz_msi,
	.on_write = fuzz_on_write,
	.remove_notifier = fuzz_remove_notifier,
};

/* Note that about the part of this that is in DATA. */
static void mark(bool *bytes, u64 gpa, u64 len)
{
	const u64 end = MIN(gpa + len, (u64)WORLD_RAM);

	gpa = MAX(gpa, (u64)DATA);
	if (gpa < end)
		memset(bytes + gpa - DATA, true, end - gpa);
}

static void note_write(void *opaque, u64 gpa, u64 len)
{
	struct world *world = opaque;

	MUST(memory_at(world->memory, gpa, len));
	mark(world->told, gpa, len);
}

/*
 * A polite driver writes nothing to DATA itself. So what is there was written by the device, which
 * was allowed to, and has said so. At rest.
 */
static void check_data(const struct world *world)
{
	const u8 *data = world->memory->base + DATA;
	static const u8 zeroes[PAGE_SIZE];

	for (unsigned page = 0; page < DATA_SIZE; page += PAGE_SIZE) {
		if (!memcmp(data + page, zeroes, PAGE_SIZE))
			continue;
		for (unsigned i = page; i < page + PAGE_SIZE; i++)
			MUST(!data[i] || (world->lent[i] && world->told[i]));
	}
}

void world_init(struct world *world, const struct fuzzed_ops *ops)
{
	struct problem why;

	MUST(ops->queues <= WORLD_QUEUES);
	*world = (struct world){.ops = ops, .engine = {.ops = &engine_ops}};
	MUST(!machine_init(&world->machine));
	world->memory = memory_new(WORLD_RAM, &why);
	world->bus = bus_new();
	MUST(world->memory && world->bus);
	world->memory->written = note_write;
	world->memory->written_opaque = world;
	ioapic_init(&world->ioapic, world->bus);
	pci_init(&world->pci, world->bus, &world->ioapic);
}

/* The device as a new one: whatever it was made to do is over now. */
static void power_cycle(struct world *world)
{
	eventfd_t count;

	virtio_power_on(world->virtio);
	MUST(!world->notifiers);
	for (unsigned i = 0; i < world->virtio->queue_count; i++)
		MUST(world->virtio->queues[i].life == QUEUE_RESTS);
	ioapic_reset(&world->ioapic, &world->engine);
	pci_reset(&world->pci, &world->engine);
	memset(world->memory->base, 0, WORLD_RAM);
	memset(world->lent, 0, sizeof(world->lent));
	memset(world->told, 0, sizeof(world->told));
	if (!machine_running(&world->machine)) {
		MUST(world->machine.strict && world->machine.status == EXIT_CRASHED);
		eventfd_read(world->machine.stop_fd, &count);
		atomic_store(&world->machine.state, MACHINE_RUNNING);
	}
	if (world->ops->at_rest)
		world->ops->at_rest(world);
	world->wild = true;
	world->was_wild = false;
	lines = 0;
}

/* Registers */

static struct pci_device *function(struct world *world)
{
	return world->pci.devices[WORLD_SLOT];
}

u64 bar_read(struct world *world, u64 offset, unsigned len)
{
	return bus_read(world->bus, MEMORY, function(world)->bars[0].base + offset, len);
}

void bar_write(struct world *world, u64 offset, unsigned len, u64 value)
{
	bus_write(world->bus, MEMORY, function(world)->bars[0].base + offset, len, value);
}

static u64 features(const struct world *world, u8 how, u8 choice)
{
	u64 wanted = world->ops->features ? world->ops->features(choice) : 0;

	wanted |= 1ull << VIRTIO_F_RING_RESET;
	if (how & UP_EVENT_IDX)
		wanted |= 1ull << VIRTIO_RING_F_EVENT_IDX;
	if (how & UP_PACKED)
		wanted |= 1ull << VIRTIO_F_RING_PACKED;
	if (how & UP_INDIRECT)
		wanted |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	return (wanted & world->virtio->offered) | 1ull << VIRTIO_F_VERSION_1;
}

static void enable_msix(struct world *world)
{
	struct pci_device *device = function(world);

	pci_config_write(device, device->msix.capability + PCI_MSIX_FLAGS, 2,
			 PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i <= world->ops->queues; i++) {
		const u64 entry = device->bars[1].base + i * PCI_MSIX_ENTRY_SIZE;

		bus_write(world->bus, MEMORY, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4, LAYOUT_LAPIC);
		bus_write(world->bus, MEMORY, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 0);
	}
	bar_write(world, VIRTIO_PCI_COMMON_MSIX, 2, 0);
}

static void set_up_queue(struct world *world, unsigned q, u8 how, u64 accepted)
{
	struct fake_driver *driver = &world->drivers[q];
	/* Of packed rings, that need not be a power of two. */
	const u16 small = how & UP_PACKED ? 5 : 4, size = how & UP_SMALL ? small : QUEUE_ENTRIES;

	memset(world->memory->base + RINGS_SIZE * q, 0, RINGS_SIZE);
	fake_driver_init(driver, world->memory, RINGS_SIZE * q, RINGS_SIZE, size, accepted);
	bar_write(world, VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
	bar_write(world, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
	if (how & UP_MSIX)
		bar_write(world, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1 + q);
	bar_write(world, VIRTIO_PCI_COMMON_Q_DESCLO, 4, driver->desc_gpa);
	bar_write(world, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, driver->avail_gpa);
	bar_write(world, VIRTIO_PCI_COMMON_Q_USEDLO, 4, driver->used_gpa);
	bar_write(world, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

/* Without a step out of line; strict or not, this must do, if the registers can be reached. */
static void bring_up(struct world *world, u8 how, u8 choice)
{
	const u64 accepted = features(world, how, choice);

	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	lines = 0;
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 1);
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	bar_write(world, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	bar_write(world, VIRTIO_PCI_COMMON_GF, 4, (u32)accepted);
	bar_write(world, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	bar_write(world, VIRTIO_PCI_COMMON_GF, 4, accepted >> 32);
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 11);
	bar_read(world, VIRTIO_PCI_COMMON_STATUS, 1);
	if (how & UP_MSIX)
		enable_msix(world);
	for (unsigned q = 0; q < world->ops->queues; q++)
		set_up_queue(world, q, how, accepted);
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 15);
	world->wild = bar_read(world, VIRTIO_PCI_COMMON_STATUS, 1) != 15;
}

/* Requests */

void take_buffers(struct request *request, struct input *input, bool writable, unsigned max)
{
	const unsigned count = take(input, 1) % 4;

	for (unsigned i = 0; i < count && i < max && request->count < WORLD_BUFFERS; i++) {
		const u16 where = take(input, 2), len = take(input, 2);
		/* Mostly sectors, and mostly in RAM. */
		const u64 gpa = DATA + where * 2ull;

		request->buffers[request->count++] = (struct fake_buffer){
			.gpa = gpa,
			.len = len & 0x8000 ? len & 0x7fff : len % 16 * 512,
			.writable = writable,
		};
	}
}

void *take_private(struct world *world, struct request *request, unsigned offset, u32 len,
		   bool writable)
{
	const u64 gpa = request->gpa + offset;

	MUST(offset + len <= PRIVATE_SIZE && request->count < WORLD_BUFFERS);
	request->buffers[request->count++] = (struct fake_buffer){gpa, len, writable};
	return memory_at(world->memory, gpa, len);
}

/* Where one descriptor ends and the next begins means nothing (VQ-10). */
static void cut(struct request *request, u8 where)
{
	const unsigned which = where >> 5;
	struct fake_buffer *buffer = &request->buffers[which];
	const u32 at = where & 0x1f;

	if (request->count == WORLD_BUFFERS || which >= request->count || at >= buffer->len || !at)
		return;
	memmove(buffer + 1, buffer, (request->count++ - which) * sizeof(*buffer));
	buffer[0].len = at;
	buffer[1].gpa += at;
	buffer[1].len -= at;
}

static u64 private_gpa(unsigned q, u16 head)
{
	return PRIVATE + (q * QUEUE_ENTRIES + head) * PRIVATE_SIZE;
}

static u64 writable_len(const struct request *request)
{
	u64 len = 0;

	for (unsigned i = 0; i < request->count; i++)
		len += request->buffers[i].writable ? request->buffers[i].len : 0;
	return len;
}

/* What came back; nobody believes a ring that somebody else may have written. */
static void reclaim(struct world *world, unsigned q)
{
	u32 written;
	u16 head;

	while (!world->wild && fake_driver_take(&world->drivers[q], &head, &written)) {
		const struct request *request = &world->requests[q][head];

		MUST(written <= writable_len(request));
		if (world->ops->completed)
			world->ops->completed(world, q, request, written);
	}
}

static void notify(struct world *world, unsigned q)
{
	bar_write(world, NOTIFY + q * 4, 2, q);
}

static void offer(struct world *world, struct input *input)
{
	const u8 what = take(input, 1), where = take(input, 1);
	const unsigned q = what % world->ops->queues;
	struct fake_driver *driver = &world->drivers[q];
	struct request request = {0};
	unsigned direct;
	int head;

	reclaim(world, q);
	if (!driver->size || !driver->free_count)
		return;
	request.gpa = private_gpa(q, driver->free_head);
	world->ops->request(world, input, q, &request);
	cut(&request, where);
	if (!request.count)
		return;
	direct = what & 0x10 || request.count > driver->size ? request.count : 0;
	if (!direct && !driver->packed && what & 0x20)
		direct = 1;
	for (unsigned i = 0; i < request.count; i++)
		if (request.buffers[i].writable)
			mark(world->lent, request.buffers[i].gpa, request.buffers[i].len);
	head = fake_driver_add_indirect(driver, request.buffers, request.count, direct);
	if (head < 0)
		return;
	world->requests[q][head] = request;
	if (what & 0x40)
		return;
	fake_driver_show(driver);
	notify(world, q);
}

/* Give the device's threads a chance to be done. */
static void pause_a_little(struct world *world)
{
	for (unsigned i = 0; i < PATIENCE && !world->wild; i++) {
		bool all = true;

		for (unsigned q = 0; q < world->ops->queues; q++) {
			reclaim(world, q);
			all &= world->drivers[q].free_count == world->drivers[q].size;
		}
		if (all || world->virtio->broken)
			break;
		if (world->ops->moment)
			world->ops->moment(world);
		sched_yield();
	}
}

/* A descriptor that is not even nearly right, in the next place. */
static void offer_anything(struct world *world, struct input *input)
{
	struct fake_driver *driver = &world->drivers[take(input, 1) % world->ops->queues];
	const u16 index = take(input, 1), flags = take(input, 1) % 8;
	const u64 addr = take(input, 3);
	const u32 len = take(input, 3);

	if (!driver->size)
		return;
	if (driver->packed) {
		fake_driver_put(driver, (struct vring_packed_desc){addr, len, index, flags});
	} else {
		driver->desc[index % driver->size] =
			(struct vring_desc){addr, len, flags, index / driver->size};
		fake_driver_offer(driver, index % (driver->size + 1));
	}
	fake_driver_show(driver);
	notify(world, driver - world->drivers);
}

static void config_access(struct world *world, struct input *input, bool write)
{
	const unsigned reg = take(input, 1), len = 1 << take(input, 1) % 3;

	if (reg % len)
		return;
	if (write)
		pci_config_write(function(world), reg, len, take(input, len));
	else
		pci_config_read(function(world), reg, len);
}

/* Through the window: aimed right, more often than chance would. */
static void window_access(struct world *world, struct input *input)
{
	struct pci_device *device = function(world);
	const unsigned access = world->virtio->pci->access;
	const u8 how = take(input, 1);
	const unsigned len = 1 << how % 3;

	pci_config_write(device, access + VIRTIO_PCI_CAP_BAR, 1, 0);
	pci_config_write(device, access + VIRTIO_PCI_CAP_OFFSET, 4,
			 (how >> 2 & 3) << 12 | take(input, 1));
	pci_config_write(device, access + VIRTIO_PCI_CAP_LENGTH, 4, len);
	if (how & 0x80)
		pci_config_write(device, access + sizeof(struct virtio_pci_cap), len,
				 take(input, len));
	else
		pci_config_read(device, access + sizeof(struct virtio_pci_cap), len);
}

/* Without the driver's knowledge. */
static void wild_step(struct world *world, struct input *input, u8 what)
{
	u64 offset = (what >> 4 & 3) << 12;
	unsigned len;

	world->wild = world->was_wild = true;
	switch (what % 16) {
	case 0:
	case 1:
		offset |= take(input, 1);
		len = 1 << take(input, 1) % 4;
		bar_write(world, offset, len, take(input, len));
		break;
	case 2:
		config_access(world, input, true);
		break;
	case 3:
		window_access(world, input);
		break;
	case 4:
		offer_anything(world, input);
		break;
	case 5: /* anything, anywhere in RAM */
		offset = take(input, 3) % (WORLD_RAM - 8);
		len = 1 + take(input, 1) % 8;
		memcpy(world->memory->base + offset, &(u64){take(input, len)}, len);
		break;
	}
}

static void take_bring_up(struct world *world, struct input *input)
{
	const u8 how = take(input, 1);

	bring_up(world, how, take(input, 1));
}

static void step(struct world *world, struct input *input)
{
	const u8 what = take(input, 1);
	u64 offset;

	switch (what % 16) {
	case 6:
		offset = (what >> 4 & 3) << 12 | take(input, 1);
		bar_read(world, offset, 1 << take(input, 1) % 4);
		break;
	case 7:
		config_access(world, input, false);
		break;
	case 8:
		take_bring_up(world, input);
		break;
	case 9:
	case 10:
	case 11:
		offer(world, input);
		break;
	case 12:
		pause_a_little(world);
		break;
	case 13:
		notify(world, what / 16 % 4);
		break;
	case 14:
		bar_read(world, ISR, 1);
		break;
	case 15:
		if (world->ops->step)
			world->ops->step(world, input, what / 16);
		break;
	default:
		if (world->polite)
			offer(world, input);
		else
			wild_step(world, input, what);
		break;
	}
}

static void check(struct world *world)
{
	struct virtio_device *device = world->virtio;
	struct virtio_pci *pci = device->pci;
	const u8 status = device->status;

	/* The queues' threads never take this one. */
	must_be_unlocked(&pci->lock);
	if (!status) {
		MUST(!device->broken && !pci->isr && !world->notifiers);
		for (unsigned i = 0; i < device->queue_count; i++)
			MUST(device->queues[i].life == QUEUE_RESTS);
		lines = 0;
	}
	MUST(!(status & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET)) || device->broken);
	MUST(lines <= world->ops->lines);
	MUST(world->machine.strict || machine_running(&world->machine));
}

u32 world_ask(struct world *world, unsigned queue, const struct fake_buffer *buffers,
	      unsigned count)
{
	struct fake_driver *driver = &world->drivers[queue];
	u32 written;
	u16 head;

	MUST(fake_driver_add(driver, buffers, count) >= 0);
	if (fake_driver_publish(driver))
		notify(world, queue);
	while (!fake_driver_take(driver, &head, &written)) {
		if (world->ops->moment)
			world->ops->moment(world);
		sched_yield();
	}
	return written;
}

/* After all that: a driver that behaves finds a device that does. */
static void must_work(struct world *world, u8 how)
{
	bring_up(world, how, 0);
	MUST(!world->wild);
	world->ops->must_work(world);
	MUST(!lines && machine_running(&world->machine));
}

void world_run(struct world *world, const u8 *data, size_t size)
{
	struct input input = {data, size};
	const u8 how = take(&input, 1);

	power_cycle(world);
	memset(world->drivers, 0, sizeof(world->drivers));
	world->machine.strict = how & RUN_STRICT;
	world->polite = how & RUN_POLITE;
	if (!(how & RUN_DOWN))
		take_bring_up(world, &input);
	while (input.left) {
		step(world, &input);
		check(world);
		if (world->ops->moment)
			world->ops->moment(world);
	}
	virtio_power_on(world->virtio);
	if (!world->was_wild)
		check_data(world);
	power_cycle(world);
	must_work(world, how >> RUN_LATER);
	power_cycle(world);
}
