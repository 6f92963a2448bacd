/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI bus, as somebody sees it who reads the specification with a ruler:
 * mechanism 1 in all widths, every slot, BARs that are sized and moved,
 * capabilities, and the window that needs no BAR at all.
 */
#include "lib/pci.h"
#include "lib/guest.h"
#include "lib/virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>

#define ONES		 0xffffffffu
#define VENDOR_VIRTIO	 0x1af4
#define DEVICE_MODERN	 0x1040
#define CLASS_BRIDGE	 0x0600
#define BARS		 6
#define PROGRAM_ROM	 PCI_ROM_ADDRESS
#define STATUS_INTERRUPT 0x08 /* PCI_STATUS_INTERRUPT, which not all headers name */
#define QUEUE_SIZE	 16

/* PCI-2: 0xCF8 is a latch, for those who write it in pieces as well. */
static void check_address_port(void)
{
	out32(PORT_PCI_ADDRESS, 0x80000800);
	check_equal(in32(PORT_PCI_ADDRESS), 0x80000800, "CF8 reads back, 32 bits");
	out16(PORT_PCI_ADDRESS, 0x0810);
	check_equal(in32(PORT_PCI_ADDRESS), 0x80000810, "CF8 takes 16 bits");
	out8(PORT_PCI_ADDRESS + 1, 0x10);
	check_equal(in32(PORT_PCI_ADDRESS), 0x80001010, "CF9 takes 8 bits");
	check_equal(in16(PORT_PCI_ADDRESS + 2), 0x8000, "CFA gives 16 bits");
	check_equal(in8(PORT_PCI_ADDRESS + 3), 0x80, "CFB gives 8 bits");
}

/* The same four bytes in every way that fits into them. */
static void check_data_port(void)
{
	u32 whole, pieces = 0;

	out32(PORT_PCI_ADDRESS, pci_address(0, SLOT_VIRTIO_CONSOLE, 0, PCI_VENDOR_ID));
	whole = in32(PORT_PCI_DATA);
	check_equal(whole & 0xffff, VENDOR_VIRTIO, "CFC gives 32 bits");
	for (unsigned i = 0; i < 4; i++)
		pieces |= (u32)in8((u16)(PORT_PCI_DATA + i)) << 8 * i;
	check_equal(pieces, whole, "CFC to CFF give 8 bits each");
	for (unsigned i = 0; i < 3; i++)
		check_equal(in16((u16)(PORT_PCI_DATA + i)), whole >> 8 * i & 0xffff,
			    "16 bits at byte %u", i);
	pci_write32(SLOT_VIRTIO_CONSOLE, PCI_CACHE_LINE_SIZE, 0);
	pci_write8(SLOT_VIRTIO_CONSOLE, PCI_LATENCY_TIMER, 0x40);
	check_equal(pci_read16(SLOT_VIRTIO_CONSOLE, PCI_CACHE_LINE_SIZE), 0x4000,
		    "8 bits are written alone");
	pci_write16(SLOT_VIRTIO_CONSOLE, PCI_CACHE_LINE_SIZE, 0x2010);
	check_equal(pci_read16(SLOT_VIRTIO_CONSOLE, PCI_CACHE_LINE_SIZE), 0x2010,
		    "16 bits are written together");
}

static u32 read_at(u32 address)
{
	out32(PORT_PCI_ADDRESS, address);
	return in32(PORT_PCI_DATA);
}

static void write_at(u32 address, u32 value)
{
	out32(PORT_PCI_ADDRESS, address);
	out32(PORT_PCI_DATA, value);
}

/* PCI-2: where nothing is, all ones; and nothing moves when it is written. */
static void check_absent(void)
{
	const u32 line = pci_address(0, SLOT_VIRTIO_CONSOLE, 0, PCI_INTERRUPT_LINE);
	const u32 absent[] = {
		line & ~PCI_ADDRESS_ON, line | 1 << 16, /* bus 1 */
		line | 255 << 16,	line | 1 << 8,	/* function 1 */
		line | 7 << 8,
	};
	unsigned slots = 0;
	u32 before = read_at(line);

	for (unsigned i = 0; i < ARRAY_SIZE(absent); i++) {
		write_at(absent[i], before ^ 0xff);
		check_equal(read_at(absent[i]), ONES, "address %08x: nobody there", absent[i]);
		check_equal(in8(PORT_PCI_DATA), 0xff, "address %08x: in 8 bits as well", absent[i]);
	}
	check_equal(read_at(line), before, "writing to nobody changes nobody");

	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		u32 id = pci_read32(slot, PCI_VENDOR_ID);

		if (id == ONES) {
			pci_write32(slot, PCI_BASE_ADDRESS_0, 0);
			slots += pci_read32(slot, PCI_BASE_ADDRESS_0) == ONES &&
				 pci_read8(slot, PCI_HEADER_TYPE) == 0xff;
			continue;
		}
		slots++;
		print("pci: slot %u: %04x:%04x class %06x\n", slot, id & 0xffff, id >> 16,
		      pci_read32(slot, PCI_CLASS_REVISION) >> 8);
	}
	check_equal(slots, PCI_SLOTS, "each slot has a device or is empty throughout");
}

static void check_bridge(void)
{
	check_equal(pci_read16(0, PCI_VENDOR_ID), VENDOR_VIRTIO, "the host bridge's vendor");
	check_equal(pci_read16(0, PCI_CLASS_DEVICE), CLASS_BRIDGE, "the host bridge is one");
	check_equal(pci_read8(0, PCI_HEADER_TYPE), 0,
		    "it has an ordinary header, and one function");
}

/* PCI-5 */
static u32 class_of(u16 virtio_id)
{
	switch (virtio_id) {
	case VIRTIO_ID_CONSOLE:
		return 0x0780;
	case VIRTIO_ID_NET:
		return 0x0200;
	case VIRTIO_ID_BLOCK:
		return 0x0180;
	case VIRTIO_ID_RNG:
		return 0xff00;
	}
	return 0;
}

static void check_identity(unsigned slot)
{
	u16 device = pci_read16(slot, PCI_DEVICE_ID);

	check(pci_read8(slot, PCI_REVISION_ID) >= 1, "slot %u: revision 1 or later", slot);
	check(pci_read16(slot, PCI_SUBSYSTEM_ID) >= 0x40, "slot %u: subsystem 0x40 or later", slot);
	check_equal(pci_read16(slot, PCI_CLASS_DEVICE), class_of(device - DEVICE_MODERN),
		    "slot %u: class", slot);
}

/* PCI-4: what is read-only stays as it is, whatever is written. */
static void check_registers(unsigned slot)
{
	static const u8 read_only[] = {PCI_VENDOR_ID,	    PCI_CLASS_REVISION,
				       PCI_CARDBUS_CIS,	    PCI_SUBSYSTEM_VENDOR_ID,
				       PCI_CAPABILITY_LIST, 0x38};
	u16 command = pci_read16(slot, PCI_COMMAND);
	const u16 bits = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;

	for (unsigned i = 0; i < ARRAY_SIZE(read_only); i++) {
		u32 before = pci_read32(slot, read_only[i]);

		pci_write32(slot, read_only[i], ~before);
		check_equal(pci_read32(slot, read_only[i]), before,
			    "slot %u: register %02x is read-only", slot, read_only[i]);
	}
	pci_write8(slot, PCI_HEADER_TYPE, 0x81);
	check_equal(pci_read8(slot, PCI_HEADER_TYPE), 0, "slot %u: header type is read-only", slot);
	pci_write8(slot, PCI_INTERRUPT_PIN, 4);
	check(pci_read8(slot, PCI_INTERRUPT_PIN) <= 1, "slot %u: interrupt pin is none or A", slot);
	pci_write8(slot, PCI_INTERRUPT_LINE, 0xa5);
	check_equal(pci_read8(slot, PCI_INTERRUPT_LINE), 0xa5, "slot %u: interrupt line is kept",
		    slot);
	check(pci_read16(slot, PCI_STATUS) & PCI_STATUS_CAP_LIST,
	      "slot %u: status announces capabilities", slot);
	pci_write16(slot, PCI_STATUS, 0xffff);
	check(pci_read16(slot, PCI_STATUS) & PCI_STATUS_CAP_LIST,
	      "slot %u: and writing does not change that", slot);
	pci_write16(slot, PCI_COMMAND, 0xffff & ~PCI_COMMAND_IO);
	check_equal(pci_read16(slot, PCI_COMMAND) & bits, bits, "slot %u: command bits are kept",
		    slot);
	pci_write16(slot, PCI_COMMAND, command);
	check_equal(pci_read16(slot, PCI_COMMAND), command, "slot %u: and cleared", slot);
}

/* PCI-3. Returns how large the BAR is, 0 if there is none. */
static u32 bar_size(unsigned slot, unsigned offset)
{
	u32 before = pci_read32(slot, offset), mask;

	pci_write32(slot, offset, ONES);
	mask = pci_read32(slot, offset) & ~0xfu;
	pci_write32(slot, offset, before);
	if (pci_read32(slot, offset) != before)
		return ONES;
	return mask ? ~mask + 1 : 0;
}

static void check_bars(unsigned slot)
{
	u16 command = pci_read16(slot, PCI_COMMAND);

	pci_write16(slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	for (unsigned bar = 0; bar < BARS; bar++) {
		u32 value = pci_read32(slot, PCI_BASE_ADDRESS_0 + 4 * bar);
		u32 size = bar_size(slot, PCI_BASE_ADDRESS_0 + 4 * bar);

		if (!size) {
			check_equal(value, 0, "slot %u: BAR %u is not there, and reads 0", slot,
				    bar);
			continue;
		}
		check((size & (size - 1)) == 0 && size >= 16,
		      "slot %u: BAR %u: size %x is a power of two", slot, bar, size);
		check_equal(value & 0xf, 0, "slot %u: BAR %u is 32-bit memory", slot, bar);
		check(value >= LAYOUT_PCI_WINDOW && value + size <= LAYOUT_PCI_WINDOW_END &&
			      value % size == 0,
		      "slot %u: BAR %u: %08x was assigned inside the window", slot, bar, value);
	}
	pci_write32(slot, PROGRAM_ROM, ONES);
	check_equal(pci_read32(slot, PROGRAM_ROM), 0, "slot %u: no ROM", slot);
	pci_write16(slot, PCI_COMMAND, command);
}

/* PCI-6 */
static void check_capabilities(unsigned slot)
{
	unsigned at = pci_read8(slot, PCI_CAPABILITY_LIST), seen = 0, count = 0;
	bool msix = false;

	for (; at && count < 48; at = pci_read8(slot, at + PCI_CAP_LIST_NEXT), count++) {
		u8 id = pci_read8(slot, at + PCI_CAP_LIST_ID);
		u8 type = pci_read8(slot, at + VIRTIO_PCI_CAP_CFG_TYPE), bar;
		u32 offset, length;

		check(at >= 0x40 && at % 4 == 0, "slot %u: capability at %02x: a place for one",
		      slot, at);
		msix |= id == PCI_CAP_ID_MSIX;
		if (id != PCI_CAP_ID_VNDR)
			continue;
		seen |= 1u << type;
		if (type == VIRTIO_PCI_CAP_PCI_CFG)
			continue;
		bar = pci_read8(slot, at + VIRTIO_PCI_CAP_BAR);
		offset = pci_read32(slot, at + VIRTIO_PCI_CAP_OFFSET);
		length = pci_read32(slot, at + VIRTIO_PCI_CAP_LENGTH);
		check(bar < BARS && offset % 4 == 0 && length &&
			      (u64)offset + length <= bar_size(slot, PCI_BASE_ADDRESS_0 + 4 * bar),
		      "slot %u: structure %u lies inside BAR %u", slot, type, bar);
	}
	check(count < 48, "slot %u: the capability list ends", slot);
	check(msix, "slot %u: MSI-X", slot);
	check_equal(seen & ~(1u << VIRTIO_PCI_CAP_DEVICE_CFG),
		    1u << VIRTIO_PCI_CAP_COMMON_CFG | 1u << VIRTIO_PCI_CAP_NOTIFY_CFG |
			    1u << VIRTIO_PCI_CAP_ISR_CFG | 1u << VIRTIO_PCI_CAP_PCI_CFG,
		    "slot %u: virtio structures", slot);
}

/* Where the whole set of registers goes when its BAR does. */
static void rebase(struct virtio *v, u64 from, u64 to)
{
	struct region *regions[] = {&v->common, &v->notify, &v->isr, &v->config};

	for (unsigned i = 0; i < ARRAY_SIZE(regions); i++)
		regions[i]->address += to - from;
}

static void move_bar(struct virtio *v, unsigned bar, u64 to)
{
	u16 command = pci_read16(v->slot, PCI_COMMAND);
	u64 from = pci_bar(v->slot, bar);

	pci_write16(v->slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	pci_write32(v->slot, PCI_BASE_ADDRESS_0 + 4 * bar, (u32)to);
	pci_write16(v->slot, PCI_COMMAND, command);
	rebase(v, from, to);
}

static void check_moving(struct virtio *v)
{
	const unsigned bar = v->common.bar;
	const u64 home = pci_bar(v->slot, bar), away = 0xd0000000;
	const u64 status = v->common.address + VIRTIO_PCI_COMMON_NUMQ;
	u16 command = pci_read16(v->slot, PCI_COMMAND);
	u32 size;

	pci_write16(v->slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	check_equal(read16(status), 0xffff, "nobody answers while memory decoding is off");
	pci_write16(v->slot, PCI_COMMAND, command);
	check_equal(read16(status), 2, "the console answers while it is on");

	size = bar_size(v->slot, PCI_BASE_ADDRESS_0 + 4 * bar);
	check_equal(read16(status), 2, "sizing a BAR (%x) with decoding on does no harm", size);

	virtio_start(v, FEATURE(VIRTIO_F_VERSION_1), QUEUE_SIZE);
	check(console_send(v, "hvc: at home\n"), "notifications work");
	move_bar(v, bar, away);
	check_equal(pci_bar(v->slot, bar), away, "a BAR can be moved");
	check_equal(read16(status), 0xffff, "nobody is where it was");
	check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_NUMQ), 2, "the console is where it went");
	check(console_send(v, "hvc: far away\n"), "notifications have moved along");

	/* Linux moves BARs without switching decoding off, when they are not 64-bit. */
	pci_write32(v->slot, PCI_BASE_ADDRESS_0 + 4 * bar, (u32)home);
	rebase(v, away, home);
	check_equal(read16(away + (status - home)), 0xffff,
		    "moved again, with decoding on: nobody is there");
	check(console_send(v, "hvc: at home again\n"), "and all is as it was");
}

/* virtio: PCI configuration access capability: the whole driver, without one access to memory. */
static void check_window(struct virtio *v)
{
	const u32 common = v->common.offset;
	u16 command = pci_read16(v->slot, PCI_COMMAND);
	const u8 bar = v->common.bar;
	u8 status = 0;

	check_equal(pci_read32(v->slot, v->window + sizeof(struct virtio_pci_cap)), 0,
		    "the window shows 0 before anybody set it");
	check(virtio_reset(v), "a reset ends");
	pci_write16(v->slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	window_set(v, bar, common, 4);
	check_equal(pci_read8(v->slot, v->window + VIRTIO_PCI_CAP_BAR), bar,
		    "the window's bar reads back");
	check_equal(pci_read32(v->slot, v->window + VIRTIO_PCI_CAP_OFFSET), common,
		    "its offset reads back");
	check_equal(pci_read32(v->slot, v->window + VIRTIO_PCI_CAP_LENGTH), 4,
		    "its length reads back");

	for (u8 bit = VIRTIO_CONFIG_S_ACKNOWLEDGE; bit <= VIRTIO_CONFIG_S_FEATURES_OK; bit <<= 1) {
		if (bit == VIRTIO_CONFIG_S_DRIVER_OK)
			continue;
		if (bit == VIRTIO_CONFIG_S_FEATURES_OK) {
			window_write(v, bar, common + VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
			window_write(v, bar, common + VIRTIO_PCI_COMMON_GF, 4,
				     1u << (VIRTIO_F_VERSION_1 - 32));
		}
		status |= bit;
		window_write(v, bar, common + VIRTIO_PCI_COMMON_STATUS, 1, status);
		check_equal(window_read(v, bar, common + VIRTIO_PCI_COMMON_STATUS, 1), status,
			    "through the window: device_status");
	}
	check_equal(window_read(v, bar, common + VIRTIO_PCI_COMMON_NUMQ, 2), 2,
		    "through the window: num_queues");
	check_equal(window_read(v, v->isr.bar, v->isr.offset, 1), 0, "through the window: isr");
	for (const char *text = "hvc: emergency through the window\n"; *text; text++)
		window_write(v, v->config.bar, v->config.offset + CONSOLE_EMERGENCY, 4, (u8)*text);

	pci_write16(v->slot, PCI_COMMAND, command);
	check_equal(virtio_status(v), status, "the same is seen in memory");
	for (unsigned i = 0; i < ARRAY_SIZE(v->rings); i++) {
		virtio_set_ring(v, i, QUEUE_SIZE);
		virtio_enable_ring(v, i);
	}
	virtio_add_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	ring_describe(&v->rings[CONSOLE_TX], 0, "hvc: notified through the window\n", 33, 0, 0);
	ring_offer(&v->rings[CONSOLE_TX], 0);
	window_write(v, v->notify.bar,
		     v->notify.offset +
			     (u32)(virtio_notify_address(v, CONSOLE_TX) - v->notify.address),
		     2, CONSOLE_TX);
	check(wait_for(ring_has_used(&v->rings[CONSOLE_TX])), "through the window: a notification");
}

/* PCI-4: the interrupt bit of the status register is what the ISR says. */
static void check_interrupt_bit(struct virtio *v)
{
	virtio_start(v, FEATURE(VIRTIO_F_VERSION_1), QUEUE_SIZE);
	check_equal(pci_read16(v->slot, PCI_STATUS) & STATUS_INTERRUPT, 0,
		    "no interrupt in the status register");
	console_send(v, "hvc: interrupts\n");
	check(wait_for(pci_read16(v->slot, PCI_STATUS) & STATUS_INTERRUPT),
	      "an interrupt shows there");
	read8(v->isr.address);
	check_equal(pci_read16(v->slot, PCI_STATUS) & STATUS_INTERRUPT, 0, "until the ISR is read");
}

void guest_main(const struct boot *boot)
{
	static struct virtio console;

	(void)boot;
	check_address_port();
	check_data_port();
	check_absent();
	check_bridge();
	virtio_find(&console, SLOT_VIRTIO_CONSOLE);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
		u32 id = pci_read32(slot, PCI_VENDOR_ID);

		if ((id & 0xffff) != VENDOR_VIRTIO || id >> 16 < DEVICE_MODERN)
			continue;
		check_identity(slot);
		check_registers(slot);
		check_bars(slot);
		check_capabilities(slot);
	}
	check_window(&console);
	check_moving(&console);
	check_interrupt_bit(&console);
	check_equal(virtio_status(&console) & VIRTIO_CONFIG_S_NEEDS_RESET, 0, "no rule was broken");
}
