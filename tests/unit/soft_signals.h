/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What test_soft_signals.c and the guest programs that it runs (soft_signals.S) both know: where
 * things are in the guest's memory, which is mapped one to one, the ports by which a program says
 * how far it is, and what comes in the place of soft_event().
 */
#ifndef SOFT_SIGNALS_H
#define SOFT_SIGNALS_H

/* Beside what soft_vcpu.h has: tables, and a stack that ends at STACK. */
#define KERNEL_STACK 0x28000 /* it ends there */
#define KERNEL_DATA  0x29000
#define CODE_AT	     0x30000 /* two pages */
#define KERNEL_AT    0x38000
#define DATA_AT	     0x40000 /* four pages */
#define USER_DATA    0x44000 /* users' data in kernels' programs, too */
#define SAVE_AT	     0x48000 /* for vector registers, at the end */
#define NMI_AT	     0x4c000 /* a page: what the handler tells, and its stack */
#define NMI_STACK    0x4d000 /* it ends there */
#define NMI_COUNT    NMI_AT
#define NMI_ROUNDS   (NMI_AT + 8)

/* `in` from the first two, `out` to the last. */
#define PORT_START 0x10
#define PORT_AWAIT 0x11 /* nothing in what follows looks whether it is wanted */
#define PORT_END   0x12
#define PORT_COUNT 3

#ifndef __ASSEMBLER__
#include "engine/soft/translate.h"

/* The linker puts the first in the place of soft_event(), which the second is then. */
const void *__wrap_soft_event(struct vcpu *vcpu, const struct site *site);
const void *__real_soft_event(struct vcpu *vcpu, const struct site *site);
extern const u8 wrap_end[] __attribute__((visibility("hidden")));
/* Called when an event is over, with where to go on, which it returns; from there on is stepped, if
 * so it says. */
const void *event_served(const void *code);
extern bool step_from_here __attribute__((visibility("hidden")));

/* What is at KERNEL_AT. */
extern const u8 kernel_begin[] __attribute__((visibility("hidden")));
extern const u8 kernel_end[] __attribute__((visibility("hidden")));
extern const u8 kernel_nmi[] __attribute__((visibility("hidden")));
extern const u8 kernel_divide[] __attribute__((visibility("hidden")));
extern const u8 kernel_undefined[] __attribute__((visibility("hidden")));
extern const u8 kernel_page_fault[] __attribute__((visibility("hidden")));
extern const u8 kernel_syscall[] __attribute__((visibility("hidden")));
#endif
#endif
