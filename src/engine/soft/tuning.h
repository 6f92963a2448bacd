/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What makes the soft engine faster and nothing else: each can be left out, by name
 * (--soft-without=), to see what it gains, or whether it is to blame. The guest runs the same
 * without any of them; the tests see to it. docs/speed.md says what each is worth.
 *
 * Tour 8.220: What can be left out
 */
#ifndef ENGINE_SOFT_TUNING_H
#define ENGINE_SOFT_TUNING_H

#include "host/problem.h"

/* Bits of engine_options.soft_without. */
#define WITHOUT_LINKS	  1u	/* blocks of a page jump to each other */
#define WITHOUT_RETURNS	  2u	/* calls remember where they return to */
#define WITHOUT_UNITS	  4u	/* blocks are translated together with what they fall through to */
#define WITHOUT_SYSTEM	  16u	/* frequent system instructions are translated */
#define WITHOUT_SYSCALLS  32u	/* so are SYSCALL and SYSRET */
#define WITHOUT_REENTRY	  64u	/* C looks for code in the jump cache, too */
#define WITHOUT_ASIDE	  128u	/* what a block rarely runs lies elsewhere */
#define WITHOUT_GROUPS	  512u	/* one probe for several accesses */
#define WITHOUT_LARGE_TLB 256u	/* TLBs that grow with what is asked of them */
#define WITHOUT_STRINGS	  1024u /* strings inside a page */
#define WITHOUT_BARE	  2048u /* user code that takes its time runs as it is */
#define WITHOUT_DOUBT	  4096u /* and only as long as that pays: no gain without, but a test */

/* Names with commas between. -EINVAL: one is not known; *without is as it was. */
int tuning_parse(const char *list, unsigned *without, struct problem *why);
/* The same for what it writes down (--trace=): SOFT_TRACE_*. */
int tuning_parse_trace(const char *list, unsigned *trace, struct problem *why);

#endif
