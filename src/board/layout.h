/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory map and the I/O ports, in one place.
 *
 * Low RAM lies from 0 to at most 3 GiB (host/memory.h). Of its first MiB, what
 * the launcher fills in is reserved in the e820 map; the rest below 640 KiB is
 * free, because Linux starts further CPUs from there.
 *
 * Tour 2.120: The map of memory
 */
#ifndef BOARD_LAYOUT_H
#define BOARD_LAYOUT_H

/* What the loader places: boot parameters, GDT, page tables, command line. Reserved in e820. */
#define LAYOUT_BOOT	0x1000
#define LAYOUT_BOOT_END 0x20000
/* Where conventional memory ends, and the firmware's area up to 1 MiB: reserved. */
#define LAYOUT_EBDA	0x9fc00
#define LAYOUT_FIRMWARE 0xa0000
/* The ACPI tables, RSDP first: within the area that old kernels search for one. */
#define LAYOUT_ACPI	0xe0000
#define LAYOUT_ACPI_END 0xffff0
/* Where an x86 begins after a reset, in real mode: F000:FFF0. */
#define LAYOUT_RESET_VECTOR 0xffff0
/* Kernels are loaded from here on. */
#define LAYOUT_KERNEL 0x100000

/*
 * No suffixes: dsdt.asl reads this file too, and its compiler does no sums in a descriptor. acpi.c
 * checks ours.
 */
#define LAYOUT_PCI_WINDOW      0xc0000000
#define LAYOUT_PCI_WINDOW_END  0xfec00000
#define LAYOUT_PCI_WINDOW_LAST 0xfebfffff
#define LAYOUT_PCI_WINDOW_SIZE 0x3ec00000
#define LAYOUT_IOAPIC	       0xfec00000
#define LAYOUT_LAPIC	       0xfee00000

#define PORT_KEYBOARD_DATA 0x60
#define PORT_KEYBOARD	   0x64
#define PORT_RTC	   0x70
#define PORT_DEBUG_EXIT	   0xf4
#define PORT_SERIAL	   0x3f8
#define PORT_ACPI_RESET	   0x600
#define PORT_ACPI_CONTROL  0x601 /* sleep control register */
#define PORT_ACPI_STATUS   0x602 /* sleep status register */
#define PORT_PCI_ADDRESS   0xcf8
#define PORT_PCI_DATA	   0xcfc

/* Pins of the IOAPIC, which are also the global system interrupts. */
#define GSI_SERIAL     4
#define GSI_RTC	       8  /* where a PC has it; ours pulls no wire */
#define GSI_BUTTON     9  /* where a PC has all that ACPI wants to say */
#define GSI_INTX       16 /* device n asserts GSI_INTX + n % GSI_INTX_COUNT */
#define GSI_INTX_COUNT 8
#define GSI_COUNT      24

#define ACPI_S5_TYPE	 5 /* value of SLP_TYP that powers off: \_S5 in dsdt.asl agrees */
#define ACPI_RESET_VALUE 0x01

#define ACPI_BUTTON_PRESSED 0x80 /* notification value: dsdt.asl */

#endif
