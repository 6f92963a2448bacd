/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Further CPUs: messages that wake them up. Each begins in ap_main(), on a stack of
 * its own, with interrupts off.
 */
#ifndef LIB_CPUS_H
#define LIB_CPUS_H

#include "lib/interrupt.h"

#define TRAMPOLINE 0x80000 /* free low memory, at a page boundary */

/* Put the code there by which CPUs begin; `stacks` is memory for as many as are woken. */
void cpus_prepare(u8 (*stacks)[STACK_SIZE]);

/* Messages of the local APIC, which must be on. A CPU wants the first, and then the second. */
void cpu_send_init(u8 apic_id);
void cpu_send_startup(u8 apic_id);
/* Any other: what goes into the lower half of the command register. */
void cpu_send(u8 apic_id, u32 message);

#endif
