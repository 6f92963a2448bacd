/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver that has lost its mind: the input is a list of accesses to the
 * registers, the configuration space and the rings of a virtio console, while
 * its threads serve what they find. Some steps do many things right at once, or
 * the rings would hardly ever be reached.
 *
 * No crash is the least of it. A device that was reset is at rest; one that is
 * broken says so in its status, and said it in one line; nothing but --strict
 * ends the machine; and after a power cycle it prints what it is given, whatever
 * came before.
 */
#include "input.h"

#include "virtio/console.h"
#include "virtio/transport.h"

#include "host/log.h"

#include <fcntl.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define RAM	    KiB(64)
#define QUEUES	    2
#define QUEUE_SIZE  8
#define RINGS(q)    (KiB(4) * (q)) /* each queue's three areas, a KiB apart; the rest is buffers */
#define SLOT	    1
#define LINES_MAX   2 /* of one life: the violation, and that the guest gave up */
#define FEATURES_LO (1u << VIRTIO_RING_F_INDIRECT_DESC)
#define FEATURES_HI (1u << (VIRTIO_F_VERSION_1 - 32) | 1u << (VIRTIO_F_RING_RESET - 32))

struct world {
	struct engine engine;
	struct machine machine;
	struct memory *memory;
	struct bus *bus;
	struct ioapic ioapic;
	struct pci_bus pci;
	struct terminal terminal;
	struct console console;
	int keyboard;  /* the other end of standard input */
	int notifiers; /* that the engine has */
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
	MUST(++world->notifiers <= QUEUES);
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

static struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));
	struct problem why;
	int input[2], output = open("/dev/null", O_WRONLY | O_CLOEXEC);

	MUST(world && output >= 0 && !pipe(input));
	dup2(input[0], STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	world->keyboard = input[1];
	world->engine.ops = &engine_ops;
	MUST(!machine_init(&world->machine));
	world->memory = memory_new(RAM, &why);
	world->bus = bus_new();
	MUST(world->memory && world->bus);
	ioapic_init(&world->ioapic, world->bus);
	pci_init(&world->pci, world->bus, &world->ioapic);
	MUST(!terminal_init(&world->terminal, &world->machine));
	MUST(!console_init(&world->console, &world->pci, SLOT, &world->machine, world->memory,
			   &world->terminal, true, &why));
	return world;
}

/* The device as a new one: whatever it was made to do is over now. */
static void power_cycle(struct world *world)
{
	eventfd_t count;

	virtio_power_on(&world->console.virtio);
	MUST(!world->notifiers);
	for (unsigned i = 0; i < QUEUES; i++)
		MUST(world->console.virtio.queues[i].life == QUEUE_RESTS);
	ioapic_reset(&world->ioapic, &world->engine);
	pci_reset(&world->pci, &world->engine);
	memset(world->memory->base, 0, RAM);
	if (!machine_running(&world->machine)) {
		MUST(world->machine.strict && world->machine.status == EXIT_CRASHED);
		eventfd_read(world->machine.stop_fd, &count);
		atomic_store(&world->machine.state, MACHINE_RUNNING);
	}
	lines = 0;
}

static u64 registers(struct world *world)
{
	return world->pci.devices[SLOT]->bars[0].base;
}

static u64 bar_read(struct world *world, u64 offset, unsigned len)
{
	return bus_read(world->bus, MEMORY, registers(world) + offset, len);
}

static void bar_write(struct world *world, u64 offset, unsigned len, u64 value)
{
	bus_write(world->bus, MEMORY, registers(world) + offset, len, value);
}

/* Without a step out of line; strict or not, this must do. */
static void bring_up(struct world *world, bool event_idx)
{
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	lines = 0;
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 1);
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	bar_write(world, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	bar_write(world, VIRTIO_PCI_COMMON_GF, 4,
		  FEATURES_LO | (event_idx ? 1u << VIRTIO_RING_F_EVENT_IDX : 0));
	bar_write(world, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	bar_write(world, VIRTIO_PCI_COMMON_GF, 4, FEATURES_HI);
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 11);
	bar_read(world, VIRTIO_PCI_COMMON_STATUS, 1);
	memset(world->memory->base, 0, QUEUES * KiB(4));
	for (unsigned q = 0; q < QUEUES; q++) {
		bar_write(world, VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
		bar_write(world, VIRTIO_PCI_COMMON_Q_SIZE, 2, QUEUE_SIZE);
		bar_write(world, VIRTIO_PCI_COMMON_Q_DESCLO, 4, RINGS(q));
		bar_write(world, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, RINGS(q) + KiB(1));
		bar_write(world, VIRTIO_PCI_COMMON_Q_USEDLO, 4, RINGS(q) + KiB(2));
		bar_write(world, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	bar_write(world, VIRTIO_PCI_COMMON_STATUS, 1, 15);
}

/* One descriptor after the input's taste, in the next place, made available and announced. */
static void offer(struct world *world, struct input *input)
{
	const unsigned q = take(input, 1) % QUEUES, index = take(input, 1) % (QUEUE_SIZE + 1);
	struct vring_desc desc = {
		.addr = take(input, 2),
		.len = take(input, 2),
		.flags = take(input, 1) % 8,
		.next = take(input, 1) % (QUEUE_SIZE + 1),
	};
	struct vring_avail *avail = (void *)(world->memory->base + RINGS(q) + KiB(1));
	u16 at = avail->idx;

	memcpy(world->memory->base + RINGS(q) + index * sizeof(desc), &desc, sizeof(desc));
	avail->ring[at % QUEUE_SIZE] = index;
	__atomic_store_n(&avail->idx, at + 1, __ATOMIC_RELEASE);
	bar_write(world, 0x3000 + q * 4, 2, q);
}

static void type(struct world *world, struct input *input)
{
	u8 text[16];
	size_t len = 1 + take(input, 1) % sizeof(text);

	memset(text, 'x', sizeof(text));
	MUST(write(world->keyboard, text, len) == (ssize_t)len);
	/* What does not fit into the ring stays in the pipe; nobody may wait for that to change. */
	if (terminal_input_events(&world->terminal))
		terminal_read_ready(&world->terminal);
	else
		MUST(read(STDIN_FILENO, text, len) > 0);
}

static void config_access(struct world *world, struct input *input, bool write)
{
	struct pci_device *device = world->pci.devices[SLOT];
	const unsigned reg = take(input, 1), len = 1 << take(input, 1) % 3;

	if (reg % len)
		return;
	if (write)
		pci_config_write(device, reg, len, take(input, len));
	else
		pci_config_read(device, reg, len);
}

/* Through the window: aimed right, more often than chance would. */
static void window_access(struct world *world, struct input *input)
{
	struct pci_device *device = world->pci.devices[SLOT];
	const unsigned access = world->console.virtio.pci->access;
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

static void step(struct world *world, struct input *input)
{
	const u8 what = take(input, 1);
	const u64 page = (what >> 4 & 3) << 12;
	u64 offset;
	unsigned len;

	switch (what % 16) {
	case 0:
	case 1:
	case 2:
		offset = page | take(input, 1);
		len = 1 << take(input, 1) % 4;
		bar_write(world, offset, len, take(input, len));
		break;
	case 3:
		offset = page | take(input, 1);
		bar_read(world, offset, 1 << take(input, 1) % 4);
		break;
	case 4:
		config_access(world, input, true);
		break;
	case 5:
		config_access(world, input, false);
		break;
	case 6:
		window_access(world, input);
		break;
	case 7:
		bring_up(world, what & 0x10);
		break;
	case 8:
	case 9:
	case 10:
		offer(world, input);
		break;
	case 11: /* anything, anywhere in RAM */
		offset = take(input, 2) % (RAM - 8);
		len = 1 + take(input, 1) % 8;
		memcpy(world->memory->base + offset, &(u64){take(input, len)}, len);
		break;
	case 12:
		type(world, input);
		break;
	case 13:
		virtio_config_begin(&world->console.virtio);
		world->console.columns = take(input, 1);
		virtio_config_changed(&world->console.virtio);
		break;
	case 14:
		len = 2 + what / 16 % 2 * 2;
		bar_write(world, 0x3000 + take(input, 1) % 3 * 4, len, take(input, 1));
		break;
	case 15: /* the ISR */
		bar_read(world, 0x1000, 1);
		break;
	}
}

static void check(struct world *world)
{
	struct virtio_device *device = &world->console.virtio;
	struct virtio_pci *pci = device->pci;
	const u8 status = device->status;

	/* The queues' threads never take this one. */
	must_be_unlocked(&pci->lock);
	if (!status) {
		MUST(!device->broken && !pci->isr && !world->notifiers);
		for (unsigned i = 0; i < QUEUES; i++)
			MUST(device->queues[i].life == QUEUE_RESTS);
		lines = 0;
	}
	MUST(!(status & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET)) || device->broken);
	MUST(lines <= LINES_MAX);
	MUST(world->machine.strict || machine_running(&world->machine));
}

/* After all that: a driver that behaves finds a device that does. */
static void must_work(struct world *world)
{
	struct vring_avail *avail = (void *)(world->memory->base + RINGS(1) + KiB(1));
	struct vring_used *used = (void *)(world->memory->base + RINGS(1) + KiB(2));
	const struct vring_desc desc = {.addr = KiB(32), .len = 5};

	bring_up(world, false);
	memcpy(world->memory->base + RINGS(1), &desc, sizeof(desc));
	__atomic_store_n(&avail->idx, 1, __ATOMIC_RELEASE);
	bar_write(world, 0x3000 + 4, 2, 1);
	while (!__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE)) {
		terminal_flush(&world->terminal, -1, 0);
		usleep(10);
	}
	MUST(used->ring[0].id == 0 && used->ring[0].len == 0);
	MUST(!lines && machine_running(&world->machine));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct world *world; /* built once: what a guest did, a power cycle must undo */
	struct input input = {data, size};
	u8 text[64];

	if (!world)
		world = world_new();
	power_cycle(world);
	world->machine.strict = take(&input, 1) & 1;
	while (input.left) {
		step(world, &input);
		check(world);
		terminal_flush(&world->terminal, -1, 0);
	}
	power_cycle(world);
	must_work(world);
	power_cycle(world);
	while (terminal_take(&world->terminal, INPUT_SERIAL, text, sizeof(text)))
		;
	return 0;
}
