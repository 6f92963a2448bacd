/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI bus and MSI-X, used through the ports and BARs as a guest would, with
 * a device that remembers what it hears.
 */
#include "board/pci.h"

#include "fake_engine.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOT	     5
#define BAR_REGS     0
#define BAR_REGS_LEN 0x4000
#define BAR_MSIX     1
#define VECTORS	     3
#define WINDOW_LEN   16

#define PORT_ENABLE 0x80000000u
#define PBA	    0x800

struct device {
	struct pci_device pci;
	unsigned window;
	unsigned capability;
	/* What it heard last. */
	u64 offset, value;
	unsigned len;
	unsigned moves;
	u64 base;
	bool mapped;
	unsigned master_changes;
	bool master;
};

struct fixture {
	struct bus *bus;
	struct ioapic ioapic;
	struct pci_bus pci;
	struct fake_engine fake;
	struct device device;
};

static u64 regs_read(void *opaque, u64 offset, unsigned len)
{
	(void)opaque, (void)len;
	return 0x1111111111111111ull * (offset & 0xf);
}

static void regs_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct device *device = opaque;

	device->offset = offset;
	device->len = len;
	device->value = value;
}

static const struct region_ops regs_ops = {.read = regs_read, .write = regs_write};

/* The window covers the capability's header too, so that the list goes through it. */
static u32 window_read(struct pci_device *pci, unsigned offset, unsigned len)
{
	struct device *device = container_of(pci, struct device, pci);
	u32 header;

	if (offset < sizeof(header)) {
		memcpy(&header, pci->config + device->window, sizeof(header));
		return header >> 8 * offset;
	}
	/* Legal, because no lock is held: a window may look anywhere. */
	return pci_config_read(pci, PCI_VENDOR_ID, 2) | offset << 16 | len << 24;
}

static void window_write(struct pci_device *pci, unsigned offset, unsigned len, u32 value)
{
	struct device *device = container_of(pci, struct device, pci);

	device->offset = offset;
	device->len = len;
	device->value = value;
}

static void bar_moved(struct pci_device *pci, unsigned bar, u64 base, bool mapped)
{
	struct device *device = container_of(pci, struct device, pci);

	if (bar != BAR_REGS)
		return;
	device->moves++;
	device->base = base;
	device->mapped = mapped;
}

/* No lock is held: it may look. */
static void bus_master_changed(struct pci_device *pci)
{
	struct device *device = container_of(pci, struct device, pci);

	device->master_changes++;
	device->master = pci_is_bus_master(pci);
}

static const struct pci_ops device_ops = {
	.window_read = window_read,
	.window_write = window_write,
	.bar_moved = bar_moved,
	.bus_master_changed = bus_master_changed,
};

static int setup(void **state)
{
	static const u8 first[5] = {PCI_CAP_ID_VNDR, 0xee, 5, 0xaa, 0xbb};
	static const u8 second[WINDOW_LEN] = {PCI_CAP_ID_VNDR, 0, WINDOW_LEN};
	struct fixture *f = calloc(1, sizeof(*f));
	struct device *device = &f->device;

	fake_engine_init(&f->fake);
	f->bus = bus_new();
	ioapic_init(&f->ioapic, f->bus);
	pci_init(&f->pci, f->bus, &f->ioapic);

	pci_device_init(&device->pci, "test", &device_ops, 0x1af4, 0x1043, 1, 0x078000);
	pci_set_bar(&device->pci, BAR_REGS, BAR_REGS_LEN, &regs_ops, device);
	device->capability = pci_add_capability(&device->pci, first, sizeof(first));
	device->window = pci_add_capability(&device->pci, second, sizeof(second));
	pci_add_window(&device->pci, device->window, WINDOW_LEN);
	pci_add_msix(&device->pci, BAR_MSIX, VECTORS);
	if (pci_add(&f->pci, &device->pci, SLOT))
		return -1;

	ioapic_reset(&f->ioapic, &f->fake.engine);
	pci_reset(&f->pci, &f->fake.engine);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_destroy(&f->pci);
	ioapic_destroy(&f->ioapic);
	bus_free(f->bus);
	fake_engine_destroy(&f->fake);
	free(f);
	return 0;
}

static void select_reg(struct fixture *f, unsigned slot, unsigned reg)
{
	bus_write(f->bus, PORT, PORT_PCI_ADDRESS, 4, PORT_ENABLE | slot << 11 | (reg & ~3u));
}

static u32 get(struct fixture *f, unsigned slot, unsigned reg, unsigned len)
{
	select_reg(f, slot, reg);
	return bus_read(f->bus, PORT, PORT_PCI_DATA + reg % 4, len);
}

static void put(struct fixture *f, unsigned slot, unsigned reg, unsigned len, u32 value)
{
	select_reg(f, slot, reg);
	bus_write(f->bus, PORT, PORT_PCI_DATA + reg % 4, len, value);
}

static u64 bar_base(struct fixture *f, unsigned bar)
{
	return get(f, SLOT, PCI_BASE_ADDRESS_0 + 4 * bar, 4);
}

static unsigned msix_capability(struct fixture *f)
{
	unsigned at = get(f, SLOT, PCI_CAPABILITY_LIST, 1);

	while (at && get(f, SLOT, at, 1) != PCI_CAP_ID_MSIX)
		at = get(f, SLOT, at + 1, 1);
	assert_true(at);
	return at;
}

static void set_msix_flags(struct fixture *f, u16 flags)
{
	put(f, SLOT, msix_capability(f) + PCI_MSIX_FLAGS, 2, flags);
}

static void set_command(struct fixture *f, u16 command)
{
	put(f, SLOT, PCI_COMMAND, 2, command);
}

/* The table and the pending bits, through the BAR. */
static u64 table_get(struct fixture *f, unsigned offset, unsigned len)
{
	return bus_read(f->bus, MEMORY, bar_base(f, BAR_MSIX) + offset, len);
}

static void table_put(struct fixture *f, unsigned offset, unsigned len, u64 value)
{
	bus_write(f->bus, MEMORY, bar_base(f, BAR_MSIX) + offset, len, value);
}

static void table_fill(struct fixture *f, unsigned vector, u64 address, u32 data, u32 control)
{
	table_put(f, 16 * vector, 4, address);
	table_put(f, 16 * vector + 4, 4, address >> 32);
	table_put(f, 16 * vector + 8, 4, data);
	table_put(f, 16 * vector + 12, 4, control);
}

static void expect_msi(struct fixture *f, u64 address, u32 data)
{
	struct fake_message message;

	assert_true(fake_engine_take(&f->fake, &message));
	assert_int_equal(message.address, address);
	assert_int_equal(message.data, data);
}

static void expect_no_msi(struct fixture *f)
{
	struct fake_message message;

	assert_false(fake_engine_take(&f->fake, &message));
}

/* PCI-1 */
static void test_host_bridge(void **state)
{
	struct fixture *f = *state;
	u16 id = get(f, 0, PCI_DEVICE_ID, 2);

	assert_int_equal(get(f, 0, PCI_VENDOR_ID, 2), 0x1af4);
	assert_true(id < 0x1000 || id > 0x107f);
	assert_int_equal(get(f, 0, PCI_CLASS_DEVICE, 2), 0x0600);
	assert_int_equal(get(f, 0, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(get(f, 0, PCI_INTERRUPT_PIN, 1), 0);
	for (unsigned reg = PCI_BASE_ADDRESS_0; reg <= PCI_BASE_ADDRESS_5; reg += 4) {
		put(f, 0, reg, 4, ~0u);
		assert_int_equal(get(f, 0, reg, 4), 0);
	}
}

/* PCI-2 */
static void test_address_port_latches(void **state)
{
	struct fixture *f = *state;

	bus_write(f->bus, PORT, 0xcf8, 4, 0x12345678);
	assert_int_equal(bus_read(f->bus, PORT, 0xcf8, 4), 0x12345678);
	assert_int_equal(bus_read(f->bus, PORT, 0xcf8, 2), 0x5678);
	assert_int_equal(bus_read(f->bus, PORT, 0xcfa, 2), 0x1234);
	assert_int_equal(bus_read(f->bus, PORT, 0xcf9, 2), 0x3456);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(bus_read(f->bus, PORT, 0xcf8 + i, 1), 0x12345678 >> 8 * i & 0xff);
	bus_write(f->bus, PORT, 0xcfb, 1, 0x80);
	bus_write(f->bus, PORT, 0xcf9, 2, 0xabcd);
	assert_int_equal(bus_read(f->bus, PORT, 0xcf8, 4), 0x80abcd78);
	bus_write(f->bus, PORT, 0xcfa, 2, 0x8000);
	bus_write(f->bus, PORT, 0xcf8, 1, 0);
	bus_write(f->bus, PORT, 0xcf9, 1, SLOT << 3);
	assert_int_equal(bus_read(f->bus, PORT, 0xcfc, 4), 0x10431af4);
}

static void test_data_port_sizes_and_offsets(void **state)
{
	struct fixture *f = *state;

	select_reg(f, SLOT, 0);
	assert_int_equal(bus_read(f->bus, PORT, 0xcfc, 4), 0x10431af4);
	assert_int_equal(bus_read(f->bus, PORT, 0xcfc, 2), 0x1af4);
	assert_int_equal(bus_read(f->bus, PORT, 0xcfd, 2), 0x431a);
	assert_int_equal(bus_read(f->bus, PORT, 0xcfe, 2), 0x1043);
	assert_int_equal(bus_read(f->bus, PORT, 0xcff, 1), 0x10);
	/* Over the end: there is nothing behind it. */
	assert_int_equal(bus_read(f->bus, PORT, 0xcff, 2), 0xff10);
	assert_int_equal(bus_read(f->bus, PORT, 0xcfd, 4), 0xff10431a);
	/* The two lowest bits of the address say nothing. */
	bus_write(f->bus, PORT, 0xcf8, 4, PORT_ENABLE | SLOT << 11 | 3);
	assert_int_equal(bus_read(f->bus, PORT, 0xcfc, 4), 0x10431af4);
}

static void test_nobody_there(void **state)
{
	static const u32 addresses[] = {
		SLOT << 11,			    /* not enabled */
		PORT_ENABLE | 1 << 16 | SLOT << 11, /* another bus */
		PORT_ENABLE | 255 << 16 | SLOT << 11,
		PORT_ENABLE | SLOT << 11 | 1 << 8, /* another function */
		PORT_ENABLE | SLOT << 11 | 7 << 8,
		PORT_ENABLE | (SLOT + 1) << 11, /* an empty slot */
		PORT_ENABLE | 31 << 11,
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
		bus_write(f->bus, PORT, 0xcf8, 4, addresses[i] | PCI_INTERRUPT_LINE);
		bus_write(f->bus, PORT, 0xcfc, 1, 0x77);
		bus_write(f->bus, PORT, 0xcf8, 4, addresses[i]);
		assert_int_equal(bus_read(f->bus, PORT, 0xcfc, 4), 0xffffffff);
		assert_int_equal(bus_read(f->bus, PORT, 0xcfd, 2), 0xffff);
		assert_int_equal(bus_read(f->bus, PORT, 0xcff, 1), 0xff);
	}
	assert_int_not_equal(get(f, SLOT, PCI_INTERRUPT_LINE, 1), 0x77);
}

static void test_identity_and_capabilities(void **state)
{
	struct fixture *f = *state;
	unsigned at;

	assert_int_equal(get(f, SLOT, PCI_CLASS_REVISION, 4), 0x07800001);
	assert_int_equal(get(f, SLOT, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x10431af4);
	assert_true(get(f, SLOT, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	assert_int_equal(get(f, SLOT, PCI_INTERRUPT_PIN, 1), 1);
	assert_int_equal(get(f, SLOT, PCI_INTERRUPT_LINE, 1), GSI_INTX + SLOT);

	at = get(f, SLOT, PCI_CAPABILITY_LIST, 1);
	assert_int_equal(at, f->device.capability);
	assert_int_equal(get(f, SLOT, at, 4) & 0xffff00ff, 0xaa050009);
	assert_int_equal(get(f, SLOT, at + 4, 1), 0xbb);
	at = get(f, SLOT, at + 1, 1);
	assert_int_equal(at, f->device.window);
	at = get(f, SLOT, at + 1, 1);
	assert_int_equal(at % 4, 0);
	assert_int_equal(get(f, SLOT, at, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(get(f, SLOT, at + 1, 1), 0);
	assert_int_equal(get(f, SLOT, at + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	assert_int_equal(get(f, SLOT, at + PCI_MSIX_TABLE, 4), BAR_MSIX);
	assert_int_equal(get(f, SLOT, at + PCI_MSIX_PBA, 4), PBA | BAR_MSIX);
}

/* PCI-4: every bit of configuration space, and only some of them stick. */
static void test_which_bits_stick(void **state)
{
	struct fixture *f = *state;
	unsigned msix = msix_capability(f);

	for (unsigned reg = 0; reg < PCI_CONFIG_SIZE; reg++) {
		u8 before, writable = 0;

		if (reg - f->device.window < WINDOW_LEN)
			continue;
		if (reg == PCI_CACHE_LINE_SIZE || reg == PCI_LATENCY_TIMER ||
		    reg == PCI_INTERRUPT_LINE)
			writable = 0xff;
		else if (reg == PCI_COMMAND)
			writable = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
		else if (reg == PCI_COMMAND + 1)
			writable = PCI_COMMAND_INTX_DISABLE >> 8;
		else if (reg == msix + PCI_MSIX_FLAGS + 1)
			writable = 0xc0;
		else if (reg >= PCI_BASE_ADDRESS_0 && reg < PCI_BASE_ADDRESS_2)
			writable = ~((reg < PCI_BASE_ADDRESS_1 ? 0x3fffu : 0xfffu) >> reg % 4 * 8);

		before = get(f, SLOT, reg, 1);
		put(f, SLOT, reg, 1, 0xff);
		assert_int_equal(get(f, SLOT, reg, 1), before | writable);
		put(f, SLOT, reg, 1, 0);
		assert_int_equal(get(f, SLOT, reg, 1), before & ~writable & 0xff);
		put(f, SLOT, reg, 1, before);
		assert_int_equal(get(f, SLOT, reg, 1), before);
	}
	expect_no_msi(f);
}

/* PCI-3 */
static void test_bars_are_assigned(void **state)
{
	struct fixture *f = *state;
	u64 regs = bar_base(f, BAR_REGS), msix = bar_base(f, BAR_MSIX);

	assert_true(regs >= LAYOUT_PCI_WINDOW && regs + BAR_REGS_LEN <= LAYOUT_PCI_WINDOW_END);
	assert_int_equal(regs % BAR_REGS_LEN, 0);
	assert_true(msix >= regs + BAR_REGS_LEN || msix + PAGE_SIZE <= regs);
	assert_int_equal(msix % PAGE_SIZE, 0);
	assert_int_equal(get(f, SLOT, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(f->device.moves, 1);
	assert_true(f->device.mapped);
	assert_int_equal(f->device.base, regs);

	bus_write(f->bus, MEMORY, regs + 0x3ffe, 2, 0x1234);
	assert_int_equal(f->device.offset, 0x3ffe);
	assert_int_equal(f->device.len, 2);
	assert_int_equal(f->device.value, 0x1234);
	assert_int_equal(bus_read(f->bus, MEMORY, regs + 2, 4), 0x22222222);
}

static void test_bar_sizing(void **state)
{
	struct fixture *f = *state;
	u32 before = bar_base(f, BAR_REGS);

	put(f, SLOT, PCI_BASE_ADDRESS_0, 4, ~0u);
	assert_int_equal(get(f, SLOT, PCI_BASE_ADDRESS_0, 4), ~(BAR_REGS_LEN - 1u));
	put(f, SLOT, PCI_BASE_ADDRESS_0, 4, before);
	put(f, SLOT, PCI_BASE_ADDRESS_1, 4, ~0u);
	assert_int_equal(get(f, SLOT, PCI_BASE_ADDRESS_1, 4), 0xfffff000);
	for (unsigned reg = PCI_BASE_ADDRESS_2; reg <= PCI_BASE_ADDRESS_5; reg += 4) {
		put(f, SLOT, reg, 4, ~0u);
		assert_int_equal(get(f, SLOT, reg, 4), 0);
	}
	put(f, SLOT, PCI_ROM_ADDRESS, 4, ~0u);
	assert_int_equal(get(f, SLOT, PCI_ROM_ADDRESS, 4), 0);
	/* It decoded all the while. */
	assert_int_equal(bus_read(f->bus, MEMORY, before + 3, 1), 0x33);
}

static void test_bar_moves(void **state)
{
	struct fixture *f = *state;
	u64 before = bar_base(f, BAR_REGS), after = 0xd0000000;

	put(f, SLOT, PCI_BASE_ADDRESS_0, 4, after | 0xf);
	assert_int_equal(bar_base(f, BAR_REGS), after);
	assert_int_equal(bus_read(f->bus, MEMORY, before + 1, 1), 0xff);
	assert_int_equal(bus_read(f->bus, MEMORY, after + 1, 1), 0x11);
	assert_int_equal(f->device.base, after);
	assert_true(f->device.mapped);
	/* Gone from the old place, arrived at the new. */
	assert_int_equal(f->device.moves, 3);

	/* By a byte, as far as a byte goes. */
	put(f, SLOT, PCI_BASE_ADDRESS_0 + 3, 1, 0xd1);
	assert_int_equal(bus_read(f->bus, MEMORY, 0xd1000001, 1), 0x11);
	/* To where it is already: nobody needs to hear of that. */
	put(f, SLOT, PCI_BASE_ADDRESS_0, 4, 0xd1000000);
	assert_int_equal(f->device.moves, 5);

	/* The very top, where base + size is 4 GiB. */
	put(f, SLOT, PCI_BASE_ADDRESS_0, 4, 0xffffc000);
	assert_int_equal(bus_read(f->bus, MEMORY, 0xffffffff, 1), 0xff);
	assert_int_equal(bus_read(f->bus, MEMORY, 0xfffffffe, 1), 0xee);
	assert_int_equal(bus_read(f->bus, MEMORY, 0x100000000, 1), 0xff);
}

static void test_memory_decoding(void **state)
{
	struct fixture *f = *state;
	u64 base = bar_base(f, BAR_REGS);

	set_command(f, PCI_COMMAND_MASTER);
	assert_int_equal(bus_read(f->bus, MEMORY, base + 1, 1), 0xff);
	assert_int_equal(table_get(f, 12, 4), 0xffffffff);
	assert_false(f->device.mapped);
	assert_int_equal(f->device.moves, 2);

	/* Moving it in the dark, then light. */
	put(f, SLOT, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	assert_int_equal(f->device.moves, 2);
	assert_int_equal(bus_read(f->bus, MEMORY, 0xd0000001, 1), 0xff);
	set_command(f, PCI_COMMAND_MEMORY);
	assert_int_equal(bus_read(f->bus, MEMORY, 0xd0000001, 1), 0x11);
	assert_int_equal(bus_read(f->bus, MEMORY, base + 1, 1), 0xff);
	assert_true(f->device.mapped);
	assert_int_equal(f->device.base, 0xd0000000);
}

static void test_window(void **state)
{
	struct fixture *f = *state;
	unsigned at = f->device.window;

	assert_int_equal(get(f, SLOT, at + 4, 4), 0x04041af4);
	assert_int_equal(get(f, SLOT, at + 13, 2), 0x1af4);
	put(f, SLOT, at + 14, 2, 0xbeef);
	assert_int_equal(f->device.offset, 14);
	assert_int_equal(f->device.len, 2);
	assert_int_equal(f->device.value, 0xbeef);
	/* Right behind it begins what is ours. */
	f->device.len = 0;
	put(f, SLOT, at + WINDOW_LEN, 4, 0);
	assert_int_equal(f->device.len, 0);
}

static void test_slots(void **state)
{
	static const struct region_ops ops = {.read = regs_read, .write = regs_write};
	static struct pci_device small, large, huge;
	struct fixture *f = *state;
	u64 base;

	pci_device_init(&small, "small", NULL, 1, 2, 3, 0xff0000);
	pci_set_bar(&small, 3, 16, &ops, &f->device);
	assert_int_equal(pci_add(&f->pci, &small, 0), -EBUSY);
	assert_int_equal(pci_add(&f->pci, &small, SLOT), -EBUSY);
	assert_int_equal(pci_add(&f->pci, &small, PCI_SLOTS), -EBUSY);
	assert_int_equal(pci_add(&f->pci, &small, 31), 0);

	pci_device_init(&huge, "huge", NULL, 1, 2, 3, 0xff0000);
	pci_set_bar(&huge, 0, 0x20000000, &ops, &f->device);
	assert_int_equal(pci_add(&f->pci, &huge, 30), -ENOSPC);
	assert_int_equal(get(f, 30, 0, 4), 0xffffffff);

	/* That cost nothing: there is room for others. */
	pci_device_init(&large, "large", NULL, 1, 2, 3, 0xff0000);
	pci_set_bar(&large, 0, 0x10000000, &ops, &f->device);
	pci_set_bar(&large, 1, 0x10000000, &ops, &f->device);
	assert_int_equal(pci_add(&f->pci, &large, 30), 0);

	pci_reset(&f->pci, &f->fake.engine);
	base = get(f, 30, PCI_BASE_ADDRESS_0, 4);
	assert_int_equal(base % 0x10000000, 0);
	assert_int_equal(bus_read(f->bus, MEMORY, base + 0xffffffe, 1), 0xee);
	base = get(f, 30, PCI_BASE_ADDRESS_1, 4);
	assert_int_equal(base % 0x10000000, 0);
	assert_true(base + 0x10000000 <= LAYOUT_PCI_WINDOW_END);
	base = get(f, 31, PCI_BASE_ADDRESS_3, 4);
	assert_int_equal(bus_read(f->bus, MEMORY, base + 1, 1), 0x11);
	assert_int_equal(get(f, 31, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(get(f, 31, PCI_STATUS, 2), 0);
}

/* Make the pin of INTx level-triggered with that vector. */
static void route_intx(struct fixture *f, unsigned gsi, u8 vector)
{
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, 0x10 + 2 * gsi);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 4, 0x8000 | vector);
}

static void test_intx(void **state)
{
	struct fixture *f = *state;

	route_intx(f, GSI_INTX + SLOT, 0x41);
	assert_false(get(f, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	pci_set_intx(&f->device.pci, true);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
	assert_true(get(f, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	ioapic_eoi(&f->ioapic, 0x41);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
	pci_set_intx(&f->device.pci, false);
	ioapic_eoi(&f->ioapic, 0x41);
	expect_no_msi(f);
	assert_false(get(f, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
}

static void test_intx_disabled(void **state)
{
	struct fixture *f = *state;

	route_intx(f, GSI_INTX + SLOT, 0x41);
	set_command(f, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	pci_set_intx(&f->device.pci, true);
	expect_no_msi(f);
	/* The status says what the device wants all the same. */
	assert_true(get(f, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	set_command(f, PCI_COMMAND_MEMORY);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
	set_command(f, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	ioapic_eoi(&f->ioapic, 0x41);
	expect_no_msi(f);
}

static void test_intx_is_quiet_under_msix(void **state)
{
	struct fixture *f = *state;

	route_intx(f, GSI_INTX + SLOT, 0x41);
	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	pci_set_intx(&f->device.pci, true);
	expect_no_msi(f);
	set_msix_flags(f, 0);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
}

/* Slots that are eight apart share a wire, and each counts. */
static void test_intx_is_shared(void **state)
{
	static struct pci_device other;
	struct fixture *f = *state;

	pci_device_init(&other, "other", NULL, 1, 2, 3, 0xff0000);
	pci_add_msix(&other, 0, 1);
	assert_int_equal(pci_add(&f->pci, &other, SLOT + GSI_INTX_COUNT), 0);
	pci_reset(&f->pci, &f->fake.engine);
	assert_int_equal(get(f, SLOT + GSI_INTX_COUNT, PCI_INTERRUPT_LINE, 1), GSI_INTX + SLOT);

	route_intx(f, GSI_INTX + SLOT, 0x41);
	pci_set_intx(&f->device.pci, true);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
	pci_set_intx(&other, true);
	pci_set_intx(&f->device.pci, false);
	ioapic_eoi(&f->ioapic, 0x41);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
	pci_set_intx(&other, false);
	ioapic_eoi(&f->ioapic, 0x41);
	expect_no_msi(f);
}

static void test_msix_table(void **state)
{
	struct fixture *f = *state;

	for (unsigned vector = 0; vector < VECTORS; vector++) {
		assert_true(table_get(f, 16 * vector, 8) == 0);
		assert_true(table_get(f, 16 * vector + 8, 8) == 1ull << 32);
	}
	table_put(f, 16, 8, 0x123456789abcdef3ull);
	table_put(f, 24, 8, 0xfffffffe55555555ull);
	assert_true(table_get(f, 16, 8) == 0x123456789abcdef0ull);
	assert_int_equal(table_get(f, 16, 4), 0x9abcdef0);
	assert_int_equal(table_get(f, 20, 4), 0x12345678);
	assert_int_equal(table_get(f, 24, 4), 0x55555555);
	assert_int_equal(table_get(f, 28, 4), 0); /* the mask bit is the only one */
	table_put(f, 20, 4, 0xaaaaaaaa);
	table_put(f, 28, 4, 0xffffffff);
	assert_true(table_get(f, 16, 8) == 0xaaaaaaaa9abcdef0ull);
	assert_int_equal(table_get(f, 28, 4), 1);

	/* Neither small nor crooked accesses do anything. */
	table_put(f, 24, 1, 0x99);
	table_put(f, 24, 2, 0x9999);
	table_put(f, 26, 4, 0x99999999);
	table_put(f, 20, 8, 0);
	assert_int_equal(table_get(f, 24, 4), 0x55555555);
	assert_true(table_get(f, 16, 8) == 0xaaaaaaaa9abcdef0ull);
	assert_int_equal(table_get(f, 24, 2), 0xffff);
	assert_true(table_get(f, 20, 8) == ~0ull);

	/* Behind the last vector, around the pending bits, and at the end. */
	for (unsigned offset = 16 * VECTORS; offset < PAGE_SIZE; offset += 8) {
		table_put(f, offset, 8, ~0ull);
		assert_true(table_get(f, offset, 8) == 0);
	}
}

static void test_msix_send(void **state)
{
	struct fixture *f = *state;

	table_fill(f, 0, 0xfee01000, 0x21, 0);
	table_fill(f, 2, 0xfee02000, 0x23, 0);
	assert_false(pci_msix_enabled(&f->device.pci));
	pci_msix_send(&f->device.pci, 0); /* not switched on: nothing, now or later */
	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	assert_true(pci_msix_enabled(&f->device.pci));
	expect_no_msi(f);

	pci_msix_send(&f->device.pci, 0);
	expect_msi(f, 0xfee01000, 0x21);
	pci_msix_send(&f->device.pci, 2);
	pci_msix_send(&f->device.pci, 2);
	expect_msi(f, 0xfee02000, 0x23);
	expect_msi(f, 0xfee02000, 0x23);
	pci_msix_send(&f->device.pci, VECTORS);
	pci_msix_send(&f->device.pci, PCI_MSIX_MAX);
	pci_msix_send(&f->device.pci, 0xffff);
	expect_no_msi(f);
	assert_true(table_get(f, PBA, 8) == 0);
}

static void test_msix_vector_mask(void **state)
{
	struct fixture *f = *state;

	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	table_fill(f, 1, 0xfee00000, 0x31, 1);
	pci_msix_send(&f->device.pci, 1);
	pci_msix_send(&f->device.pci, 1);
	expect_no_msi(f);
	assert_int_equal(table_get(f, PBA, 4), 2);
	assert_int_equal(table_get(f, PBA + 4, 4), 0);
	table_put(f, PBA, 8, 0); /* read-only */
	assert_true(table_get(f, PBA, 8) == 2);
	/* It goes to where the entry points when it goes. */
	table_put(f, 16 + 8, 4, 0x32);
	table_put(f, 16 + 12, 4, 0);
	expect_msi(f, 0xfee00000, 0x32);
	expect_no_msi(f);
	assert_true(table_get(f, PBA, 8) == 0);
}

static void test_msix_function_mask(void **state)
{
	struct fixture *f = *state;

	for (unsigned vector = 0; vector < VECTORS; vector++)
		table_fill(f, vector, 0xfee00000, 0x40 + vector, vector == 1);
	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	for (unsigned vector = 0; vector < VECTORS; vector++)
		pci_msix_send(&f->device.pci, vector);
	expect_no_msi(f);
	assert_true(table_get(f, PBA, 8) == 7);
	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	expect_msi(f, 0xfee00000, 0x40);
	expect_msi(f, 0xfee00000, 0x42);
	expect_no_msi(f);
	assert_true(table_get(f, PBA, 8) == 2);
	table_put(f, 16 + 12, 4, 0);
	expect_msi(f, 0xfee00000, 0x41);
}

/* The device hears of the bit, and not of what else the register has. */
static void test_bus_master_hook(void **state)
{
	struct fixture *f = *state;
	struct device *device = &f->device;

	assert_true(pci_is_bus_master(&device->pci));
	set_command(f, PCI_COMMAND_MASTER);
	set_command(f, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(device->master_changes, 0);
	set_command(f, PCI_COMMAND_MEMORY);
	assert_int_equal(device->master_changes, 1);
	assert_false(device->master);
	put(f, SLOT, PCI_CACHE_LINE_SIZE, 1, 1);
	assert_int_equal(device->master_changes, 1);
	put(f, SLOT, PCI_COMMAND, 1, PCI_COMMAND_MASTER);
	assert_int_equal(device->master_changes, 2);
	assert_true(device->master);
}

static void test_msix_needs_bus_master(void **state)
{
	struct fixture *f = *state;

	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	table_fill(f, 0, 0xfee00000, 0x21, 0);
	set_command(f, PCI_COMMAND_MEMORY);
	pci_msix_send(&f->device.pci, 0);
	expect_no_msi(f);
	assert_true(table_get(f, PBA, 8) == 1);
	set_command(f, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	expect_msi(f, 0xfee00000, 0x21);
	expect_no_msi(f);
}

static void test_msix_off_forgets(void **state)
{
	struct fixture *f = *state;

	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	table_fill(f, 0, 0xfee00000, 0x21, 0);
	pci_msix_send(&f->device.pci, 0);
	set_msix_flags(f, 0);
	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	expect_no_msi(f);
	assert_true(table_get(f, PBA, 8) == 0);
}

static void test_msix_of_sixty_four(void **state)
{
	static struct pci_device many;
	struct fixture *f = *state;
	u64 base;

	pci_device_init(&many, "many", NULL, 1, 2, 3, 0xff0000);
	pci_add_msix(&many, 0, PCI_MSIX_MAX);
	assert_int_equal(pci_add(&f->pci, &many, 6), 0);
	pci_reset(&f->pci, &f->fake.engine);
	base = get(f, 6, PCI_BASE_ADDRESS_0, 4);
	assert_int_equal(get(f, 6, 0x40, 4), 0x003f0011);
	put(f, 6, 0x42, 2, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned vector = 0; vector < PCI_MSIX_MAX; vector++)
		pci_msix_send(&many, vector);
	assert_true(bus_read(f->bus, MEMORY, base + PBA, 8) == ~0ull);
	bus_write(f->bus, MEMORY, base + 16 * 63, 8, 0xfee00000);
	bus_write(f->bus, MEMORY, base + 16 * 63 + 8, 8, 0x77);
	expect_msi(f, 0xfee00000, 0x77);
	assert_int_equal(bus_read(f->bus, MEMORY, base + PBA + 4, 4), 0x7fffffff);
	assert_int_equal(bus_read(f->bus, MEMORY, base + PBA, 4), 0xffffffff);
}

static void test_reset(void **state)
{
	struct fixture *f = *state;
	u8 before[PCI_CONFIG_SIZE];
	u64 base = bar_base(f, BAR_REGS);
	struct fake_engine other;
	struct fake_message message;

	memcpy(before, f->device.pci.config, sizeof(before));
	route_intx(f, GSI_INTX + SLOT, 0x41);
	pci_set_intx(&f->device.pci, true);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	table_fill(f, 0, 0xfee00000, 0x21, 1);
	pci_msix_send(&f->device.pci, 0);
	put(f, SLOT, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	put(f, SLOT, PCI_INTERRUPT_LINE, 1, 3);
	set_command(f, PCI_COMMAND_INTX_DISABLE);

	fake_engine_init(&other);
	ioapic_reset(&f->ioapic, &other.engine);
	pci_reset(&f->pci, &other.engine);
	assert_int_equal(bus_read(f->bus, PORT, PORT_PCI_ADDRESS, 4), 0);
	assert_memory_equal(before, f->device.pci.config, sizeof(before));
	assert_int_equal(bus_read(f->bus, MEMORY, 0xd0000001, 1), 0xff);
	assert_int_equal(bus_read(f->bus, MEMORY, base + 1, 1), 0x11);
	assert_int_equal(f->device.base, base);
	assert_true(f->device.mapped);
	assert_true(table_get(f, 0, 8) == 0);
	assert_true(table_get(f, 8, 8) == 1ull << 32);
	assert_true(table_get(f, PBA, 8) == 0);
	assert_false(get(f, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	route_intx(f, GSI_INTX + SLOT, 0x41);
	assert_false(fake_engine_take(&other, &message));

	/* A BAR that had not moved: the device hears of it again, as the engine is another. */
	f->device.moves = 0;
	pci_reset(&f->pci, &other.engine);
	assert_int_equal(f->device.moves, 2);
	assert_true(f->device.mapped);

	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	table_fill(f, 0, 0xfee00000, 0x22, 0);
	pci_msix_send(&f->device.pci, 0);
	assert_true(fake_engine_take(&other, &message));
	expect_no_msi(f);
	fake_engine_destroy(&other);
}

/* A guest's handler, running before msi() returns: it uses the device that interrupts. */
static void handle_at_once(void *opaque)
{
	struct fixture *f = opaque;

	f->fake.on_msi = NULL;
	table_put(f, 12, 4, 1);
	put(f, SLOT, PCI_CACHE_LINE_SIZE, 1, 8);
	pci_set_intx(&f->device.pci, false);
}

static void test_no_lock_while_sending(void **state)
{
	struct fixture *f = *state;

	f->fake.opaque = f;
	set_msix_flags(f, PCI_MSIX_FLAGS_ENABLE);
	table_fill(f, 0, 0xfee00000, 0x21, 0);
	f->fake.on_msi = handle_at_once;
	pci_msix_send(&f->device.pci, 0);
	expect_msi(f, 0xfee00000, 0x21);

	pci_msix_send(&f->device.pci, 0); /* the handler masked it */
	f->fake.on_msi = handle_at_once;
	table_put(f, 12, 4, 0);
	expect_msi(f, 0xfee00000, 0x21);

	route_intx(f, GSI_INTX + SLOT, 0x41);
	set_msix_flags(f, 0);
	f->fake.on_msi = handle_at_once;
	pci_set_intx(&f->device.pci, true);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
	ioapic_eoi(&f->ioapic, 0x41);
	expect_no_msi(f);
}

/*
 * Two vCPUs move the same BAR and switch decoding, a third uses it wherever it may be, and a device
 * thread interrupts in both ways. The configuration ports cannot be shared so; the functions behind
 * them can.
 */
#define RACE_ROUNDS 5000

struct race {
	struct fixture *f;
	unsigned number;
	unsigned msix_flags; /* where they are in configuration space */
	atomic_bool *done;
	unsigned wrong;
};

static void *race_mover(void *arg)
{
	struct race *race = arg;
	struct pci_device *device = &race->f->device.pci;

	for (unsigned i = 0; i < RACE_ROUNDS; i++) {
		u32 base = 0xd0000000 + (i % 3 + 3 * race->number) * BAR_REGS_LEN;

		pci_config_write(device, PCI_BASE_ADDRESS_0, 4, base);
		pci_config_write(device, PCI_COMMAND, 2, i % 5 ? 0x6 : 0x404);
		pci_config_write(device, race->msix_flags, 2, i % 2 ? 0x8000 : 0);
		pci_config_read(device, PCI_BASE_ADDRESS_0, 4);
	}
	return NULL;
}

static void *race_user(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(race->done)) {
		for (unsigned i = 0; i < 6; i++) {
			u64 value = bus_read(race->f->bus, MEMORY,
					     0xd0000001 + (u64)i * BAR_REGS_LEN, 1);

			race->wrong += value != 0x11 && value != 0xff;
		}
	}
	return NULL;
}

static void *race_device(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(race->done)) {
		pci_msix_send(&race->f->device.pci, 0);
		pci_set_intx(&race->f->device.pci, true);
		pci_set_intx(&race->f->device.pci, false);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	struct fixture *f = *state;
	atomic_bool done = false;
	struct race races[4];
	void *(*const roles[4])(void *) = {race_mover, race_mover, race_user, race_device};
	pthread_t threads[4];
	struct fake_message message;
	u32 base;

	route_intx(f, GSI_INTX + SLOT, 0x41);
	table_fill(f, 0, 0xfee00000, 0x21, 0);
	for (unsigned i = 0; i < 4; i++) {
		races[i] = (struct race){.f = f,
					 .number = i,
					 .msix_flags = msix_capability(f) + PCI_MSIX_FLAGS,
					 .done = &done};
		assert_int_equal(pthread_create(&threads[i], NULL, roles[i], &races[i]), 0);
	}
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	done = true;
	pthread_join(threads[2], NULL);
	pthread_join(threads[3], NULL);
	assert_int_equal(races[2].wrong, 0);

	/* The BAR is where it says, and only there; the wire is as it should be. */
	set_msix_flags(f, 0);
	set_command(f, PCI_COMMAND_MEMORY);
	base = bar_base(f, BAR_REGS);
	assert_int_equal(f->device.base, base);
	for (u32 i = 0, at = 0xd0000000; i < 6; i++, at += BAR_REGS_LEN)
		assert_int_equal(bus_read(f->bus, MEMORY, at + 1, 1), at == base ? 0x11 : 0xff);
	ioapic_eoi(&f->ioapic, 0x41);
	while (fake_engine_take(&f->fake, &message))
		assert_true(message.data == 0x21 || message.data == 0xc041);
	ioapic_eoi(&f->ioapic, 0x41);
	expect_no_msi(f);
	pci_set_intx(&f->device.pci, true);
	expect_msi(f, LAYOUT_LAPIC, 0xc041);
}

/*
 * A device asserts its pin; before the IOAPIC hears of it, the guest's read of the ISR releases
 * it. Whoever gets through to the IOAPIC first, the wire must then agree with the device.
 * Holding the IOAPIC's lock makes the device's thread late, nearly always.
 */
static void *assert_pin(void *arg)
{
	pci_set_intx(arg, true);
	return NULL;
}

static void test_wire_agrees_with_device(void **state)
{
	struct fixture *f = *state;
	const struct ioapic_pin *pin = &f->ioapic.pins[GSI_INTX + SLOT];

	for (unsigned i = 0; i < 200; i++) {
		pthread_t thread;

		pthread_mutex_lock(&f->ioapic.lock);
		assert_int_equal(pthread_create(&thread, NULL, assert_pin, &f->device.pci), 0);
		while (!(pci_config_read(&f->device.pci, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT))
			sched_yield();
		usleep(100);
		pthread_mutex_unlock(&f->ioapic.lock);
		pci_set_intx(&f->device.pci, false);
		pthread_join(thread, NULL);
		assert_int_equal(pin->sources, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_host_bridge, setup, teardown),
		cmocka_unit_test_setup_teardown(test_address_port_latches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_data_port_sizes_and_offsets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_identity_and_capabilities, setup, teardown),
		cmocka_unit_test_setup_teardown(test_which_bits_stick, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bars_are_assigned, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bar_sizing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bar_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_decoding, setup, teardown),
		cmocka_unit_test_setup_teardown(test_window, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_intx, setup, teardown),
		cmocka_unit_test_setup_teardown(test_intx_disabled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_intx_is_quiet_under_msix, setup, teardown),
		cmocka_unit_test_setup_teardown(test_intx_is_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_msix_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_msix_send, setup, teardown),
		cmocka_unit_test_setup_teardown(test_msix_vector_mask, setup, teardown),
		cmocka_unit_test_setup_teardown(test_msix_function_mask, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bus_master_hook, setup, teardown),
		cmocka_unit_test_setup_teardown(test_msix_needs_bus_master, setup, teardown),
		cmocka_unit_test_setup_teardown(test_msix_off_forgets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_msix_of_sixty_four, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_lock_while_sending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wire_agrees_with_device, setup, teardown),
	};

	return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
