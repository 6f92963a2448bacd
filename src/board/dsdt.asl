/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest cannot find out by looking: where the PCI bus is and how its
 * interrupts are wired, the serial port, the clock, and how to power off.
 *
 * iasl compiles it into an array that acpi.c places beside the other tables.
 * The numbers come from layout.h, so that the board and its description cannot
 * drift apart. CPUs are not here: the MADT lists them, and that is enough.
 *
 * Tour 3.320: What the note says, in its own language
 */
#include "board/layout.h"

/*
 * Function 0 of each device has one interrupt, pin A (number 0 here), wired to a
 * pin of the IOAPIC. No name in the third place: the fourth is the GSI itself.
 */
#define INTA(device) Package () { (device << 16) | 0xffff, 0, 0, GSI_INTX + device % GSI_INTX_COUNT }

DefinitionBlock ("", "DSDT", 2, "LGUEST", "LGUEST", 1)
{
	/* SLP_TYP for both sleep registers (the second does not exist here), and two reserved. */
	Name (\_S5, Package () { ACPI_S5_TYPE, ACPI_S5_TYPE, 0, 0 })

	Scope (\_SB)
	{
		/* The FADT says that a power button, if there is one, is a device: this one. */
		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
			Name (_UID, 0)
		}

		/*
		 * Without the fixed hardware of a PC nobody else could raise an event: an
		 * interrupt of its own for each of them, and here there is one.
		 */
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { GSI_BUTTON }
			})

			Method (_EVT, 1, Serialized)
			{
				If (Arg0 == GSI_BUTTON)
				{
					Notify (PWRB, ACPI_BUTTON_PRESSED)
				}
			}
		}

		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_BBN, 0)

			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0, 0, 1)
				IO (Decode16, PORT_PCI_ADDRESS, PORT_PCI_ADDRESS, 1, 8)
				/* No device of ours has an I/O BAR; without a window some kernels grumble. */
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0x1000, 0xffff, 0, 0xf000)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, LAYOUT_PCI_WINDOW, LAYOUT_PCI_WINDOW_LAST, 0,
					LAYOUT_PCI_WINDOW_SIZE)
			})

			Name (_PRT, Package ()
			{
				INTA (0), INTA (1), INTA (2), INTA (3),
				INTA (4), INTA (5), INTA (6), INTA (7),
				INTA (8), INTA (9), INTA (10), INTA (11),
				INTA (12), INTA (13), INTA (14), INTA (15),
				INTA (16), INTA (17), INTA (18), INTA (19),
				INTA (20), INTA (21), INTA (22), INTA (23),
				INTA (24), INTA (25), INTA (26), INTA (27),
				INTA (28), INTA (29), INTA (30), INTA (31)
			})
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, PORT_SERIAL, PORT_SERIAL, 8, 8)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { GSI_SERIAL }
			})
		}

		/* The clock has no interrupt to offer, so none is promised: drivers then poll. */
		Device (RTC)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, PORT_RTC, PORT_RTC, 1, 2)
			})
		}
	}
}
