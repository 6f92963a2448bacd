/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI bus: configuration space, BARs, interrupts.
 *
 * Bus 0 with 32 devices of one function each; device 0 is the host bridge. A
 * device fills in a struct pci_device and plugs it in: identity, BARs,
 * capabilities, hooks. Configuration space is then ours: what is writable, where
 * the BARs are, MSI-X. The device only hears what happens inside its BARs.
 *
 * Tour 3.220: The PCI bus
 */
#ifndef BOARD_PCI_H
#define BOARD_PCI_H

#include "board/bus.h"
#include "board/ioapic.h"

#include <linux/pci_regs.h>

#define PCI_SLOTS	32
#define PCI_BARS	6
#define PCI_MSIX_MAX	64 /* vectors of a device at most */
#define PCI_CONFIG_SIZE 256

struct pci_device;
struct pci_bus;

struct pci_ops {
	/*
	 * Accesses to a part of configuration space that the device handles itself:
	 * pci_add_window(). `offset` is from its start. Called with no lock held. Both NULL if
	 * there is none.
	 */
	u32 (*window_read)(struct pci_device *device, unsigned offset, unsigned len);
	void (*window_write)(struct pci_device *device, unsigned offset, unsigned len, u32 value);

	/*
	 * The BAR now decodes at `base`, or (mapped false) no longer decodes there. Called after
	 * the bus knows, with the device's lock held: must not call pci_*() for it. May be NULL.
	 */
	void (*bar_moved)(struct pci_device *device, unsigned bar, u64 base, bool mapped);

	/*
	 * The guest has changed the bus master bit: pci_is_bus_master() knows to what. When it was
	 * cleared, the device must not touch the guest's memory from the moment this returns.
	 * Called with no lock held, so two vCPUs' news may come in the wrong order: look, do not
	 * count. Not called by pci_reset(). May be NULL.
	 */
	void (*bus_master_changed)(struct pci_device *device);
};

struct pci_bar {
	u32 size;	      /* a power of two, at least 16; 0: not implemented */
	u32 base;	      /* as the guest wrote it, low bits clear */
	bool mapped;	      /* decoding, and on the bus */
	struct region region; /* ops, opaque and name are the device's */
};

struct pci_device {
	/* Set by the device before pci_add(). */
	const char *name;
	const struct pci_ops *ops;

	/* Set by pci_add(). */
	struct pci_bus *pci;
	unsigned slot;

	/* The rest is pci.c's and msix.c's. */
	pthread_mutex_t lock; /* guards all below; never held across msi() or ops->window_*() */
	u8 config[PCI_CONFIG_SIZE];
	u8 writable[PCI_CONFIG_SIZE]; /* bits that a guest may change */
	u8 power_on[PCI_CONFIG_SIZE];
	struct pci_bar bars[PCI_BARS];
	unsigned next_capability; /* where the next one goes */
	unsigned last_capability; /* whose "next" pointer to fill in */
	unsigned window, window_len;
	bool intx; /* what the device wants on its pin */

	struct {
		unsigned vectors;    /* 0: none */
		unsigned capability; /* offset in config */
		struct msix_entry {
			u64 address;
			u32 data, control;
		} table[PCI_MSIX_MAX];
		u64 pending; /* bit n: sent while masked */
	} msix;
};

struct pci_bus {
	struct bus *bus;
	struct ioapic *ioapic;
	struct engine *engine; /* delivers MSIs; set by pci_reset() */
	struct pci_device *devices[PCI_SLOTS];
	struct pci_device bridge;
	pthread_mutex_t lock; /* guards `address` */
	u32 address;	      /* what was written to 0xCF8 */
	u32 next_base;	      /* where the next BAR is placed */
	struct region address_region, data_region;
};

/* Plugs in the host bridge and adds the two ports to the bus. */
void pci_init(struct pci_bus *pci, struct bus *bus, struct ioapic *ioapic);
void pci_destroy(struct pci_bus *pci);

/*
 * All devices' configuration spaces as at power-on, BARs assigned and decoding; each bar_moved()
 * hears of it. No vCPU runs.
 */
void pci_reset(struct pci_bus *pci, struct engine *engine);

/*
 * A device is made in this order: pci_device_init(), pci_set_bar(), pci_add_*() in the order of
 * preference, pci_add(). It lives until pci_destroy(). Subsystem ids are those of the device.
 */
void pci_device_init(struct pci_device *device, const char *name, const struct pci_ops *ops,
		     u16 vendor, u16 id, u8 revision, u32 class_code);

/*
 * BAR number `bar` is `size` bytes of 32-bit memory; `ops` hears accesses with offsets from its
 * start.
 */
void pci_set_bar(struct pci_device *device, unsigned bar, u32 size, const struct region_ops *ops,
		 void *opaque);

/*
 * Append a capability: `len` bytes, of which the first is its id and the second is filled in here.
 * Returns its offset in configuration space.
 */
unsigned pci_add_capability(struct pci_device *device, const void *capability, unsigned len);

/* Reads and writes of these bytes of configuration space go to ops->window_*(). Once per device. */
void pci_add_window(struct pci_device *device, unsigned offset, unsigned len);

/*
 * MSI-X with `vectors` vectors, its table and pending bits in BAR number `bar`, which this sets up.
 * Also what makes it a device that interrupts: it gets INTA# with it.
 */
void pci_add_msix(struct pci_device *device, unsigned bar, unsigned vectors);

/* Plug it in at slot 1..31. -EBUSY: taken. -ENOSPC: the PCI window is full. */
int pci_add(struct pci_bus *pci, struct pci_device *device, unsigned slot);

/*
 * Configuration accesses as mechanism 1 does them; for tests and for the ports. len 1, 2 or 4,
 * inside a dword.
 */
u32 pci_config_read(struct pci_device *device, unsigned offset, unsigned len);
void pci_config_write(struct pci_device *device, unsigned offset, unsigned len, u32 value);

/* The device may write and read the guest's memory. Any thread. */
bool pci_is_bus_master(struct pci_device *device);

/* MSI-X is switched on (INTx is not to be used then). Any thread. */
bool pci_msix_enabled(struct pci_device *device);

/*
 * Send that vector, or mark it pending while it is masked or the device no bus master. Nothing if
 * MSI-X is off or there is no such vector. Any thread.
 */
void pci_msix_send(struct pci_device *device, unsigned vector);

/*
 * Assert or release INTA#; the status register and the interrupt disable bit are seen to. Any
 * thread.
 */
void pci_set_intx(struct pci_device *device, bool asserted);

#endif
