/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest without a processor, for tests of virtio devices: RAM, a PCI bus with
 * the device under test in slot 1, a fake engine, and the few steps by which a
 * driver brings a device up. What lguest prints on standard error is caught, so
 * that a test can look at it.
 *
 * A test plugs its device in between fake_guest_init() and fake_guest_power_on().
 * Register accesses may come from several threads, the rest is for one.
 */
#ifndef FAKE_GUEST_H
#define FAKE_GUEST_H

#include "fake_driver.h"
#include "fake_engine.h"

#include "board/pci.h"
#include "virtio/virtio.h"

#include <linux/virtio_pci.h>

#define FAKE_GUEST_RAM	  MiB(8)
#define FAKE_GUEST_SLOT	  1
#define FAKE_GUEST_QUEUES 2

/* BAR 0, as the capabilities lay it out; a test checks that they do. */
#define REGISTERS_COMMON 0x0000
#define REGISTERS_ISR	 0x1000
#define REGISTERS_DEVICE 0x2000
#define REGISTERS_NOTIFY 0x3000

#define FEATURE_VERSION_1 (1ull << VIRTIO_F_VERSION_1)

/* How far a driver has come. */
enum stage {
	STAGE_RESET,
	STAGE_ACKNOWLEDGED,
	STAGE_DRIVER,
	STAGE_FEATURES, /* accepted, and read back */
	STAGE_QUEUES,	/* set up and enabled, MSI-X vectors n + 1 if MSI-X is on */
	STAGE_LIVE,
};

struct fake_guest {
	struct machine machine;
	struct memory *memory;
	struct bus *bus;
	struct ioapic ioapic;
	struct pci_bus pci;
	struct fake_engine engine;
	struct fake_driver queues[FAKE_GUEST_QUEUES];
	int saved_stderr, caught;
	char said[8192];
};

void fake_guest_init(struct fake_guest *guest, bool strict);
void fake_guest_power_on(struct fake_guest *guest);
/* The bus and all on it: before the device is unplugged. */
void fake_guest_destroy_board(struct fake_guest *guest);
void fake_guest_destroy(struct fake_guest *guest);

/* What was printed since the last call. Valid until the next. */
const char *fake_guest_said(struct fake_guest *guest);

/* The PCI device under test; accesses to its BARs, wherever they are now. */
struct pci_device *fake_guest_device(struct fake_guest *guest);
u64 fake_guest_read(struct fake_guest *guest, unsigned bar, u64 offset, unsigned len);
void fake_guest_write(struct fake_guest *guest, unsigned bar, u64 offset, unsigned len, u64 value);

/* A field of the common configuration, VIRTIO_PCI_COMMON_*, in its own width; of that queue. */
u32 common_get(struct fake_guest *guest, unsigned field);
void common_set(struct fake_guest *guest, unsigned field, u32 value);
u32 queue_get(struct fake_guest *guest, unsigned queue, unsigned field);
void queue_set(struct fake_guest *guest, unsigned queue, unsigned field, u32 value);

u8 status_get(struct fake_guest *guest);
void status_add(struct fake_guest *guest, u8 bits);
u64 offered_features(struct fake_guest *guest);
void accept_features(struct fake_guest *guest, u64 features);

/*
 * Lay the rings out afresh with `size` entries, as these features want them; and tell the device
 * where the areas are.
 */
void queue_lay_out(struct fake_guest *guest, unsigned queue, u16 size, u64 features);
void queue_place(struct fake_guest *guest, unsigned queue);

/*
 * Reset, and then all steps up to that one, accepting these features; rings are split or packed as
 * they say.
 */
void bring_up(struct fake_guest *guest, enum stage stage, u64 features);

void notify(struct fake_guest *guest, unsigned queue);
/* Publish what was added, and notify if the device wants it. */
void submit(struct fake_guest *guest, unsigned queue);
/* Wait for the next used element of that queue; how many bytes were written. */
u32 await_used(struct fake_guest *guest, unsigned queue, u16 *head);

/* MSI-X on, with message n for vector n: address FAKE_MSI_ADDRESS, data FAKE_MSI_DATA + n. */
#define FAKE_MSI_ADDRESS 0xfee00000
#define FAKE_MSI_DATA	 0x40
void enable_msix(struct fake_guest *guest, unsigned vectors);

/* Wait until the condition holds; a test that waits for what never comes fails after 20 s. */
#define AWAIT(condition)                                                                           \
	do {                                                                                       \
		for (unsigned tries_ = 0; !(condition); tries_++) {                                \
			assert_true(tries_ < 20000);                                               \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

#endif
