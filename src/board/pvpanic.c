/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic: one byte of a register, through which a guest kernel that is about to die says
 * so. It is the whole of a PCI device (QEMU's specification "PVPANIC DEVICE"), because on PCI a
 * stock kernel finds it by itself, and has a module that writes here from its panic notifier.
 *
 * Two bits, two kinds of bad news: "I panicked", which ends the machine (RUN-2, status
 * 3), and "I panicked, but a crash kernel is loaded", after which there is life. A read
 * tells the guest which of them we understand. No interrupt: we have nothing to say back.
 *
 * Tour 3.270
 */
#include "board/pvpanic.h"

#include "host/log.h"

#include <misc/pvpanic.h>

#define PVPANIC_VENDOR	 0x1b36
#define PVPANIC_DEVICE	 0x0011
#define PVPANIC_REVISION 1
#define PVPANIC_CLASS	 0x088000 /* "other system peripheral" */
#define PVPANIC_BAR	 0
#define PVPANIC_BAR_SIZE 16

/* Where the one register is; the other bytes are nothing. */
#define EVENTS_OFFSET 0

static u64 pvpanic_read(void *opaque, u64 offset, unsigned len)
{
	(void)opaque;
	(void)len;
	return offset == EVENTS_OFFSET ? PVPANIC_PANICKED | PVPANIC_CRASH_LOADED : 0;
}

/*
 * The register, who reads and writes it, and how it gets onto the bus. Everything that is
 * plugged into PCI has these three parts, and most have little else.
 *
 * Tour 3.271, 3 items: All of a PCI device
 */
static void pvpanic_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct pvpanic *pvpanic = opaque;

	(void)len;
	if (offset != EVENTS_OFFSET)
		return;
	if (value & PVPANIC_PANICKED)
		machine_stop(pvpanic->machine, EXIT_PANICKED, "the guest kernel panicked");
	/* Once: nothing keeps a guest from writing this all day. */
	else if ((value & PVPANIC_CRASH_LOADED) && !atomic_exchange(&pvpanic->crash_told, true))
		log_line("the guest kernel panicked and starts its crash kernel");
}

static const struct region_ops pvpanic_ops = {.read = pvpanic_read, .write = pvpanic_write};

int pvpanic_init(struct pvpanic *pvpanic, struct pci_bus *pci, unsigned slot,
		 struct machine *machine)
{
	pvpanic->machine = machine;
	atomic_init(&pvpanic->crash_told, false);
	pci_device_init(&pvpanic->pci, "pvpanic", NULL, PVPANIC_VENDOR, PVPANIC_DEVICE,
			PVPANIC_REVISION, PVPANIC_CLASS);
	pci_set_bar(&pvpanic->pci, PVPANIC_BAR, PVPANIC_BAR_SIZE, &pvpanic_ops, pvpanic);
	return pci_add(pci, &pvpanic->pci, slot);
}
