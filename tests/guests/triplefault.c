/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fault while delivering a fault while delivering a fault: with an empty
 * interrupt table, any exception is the guest's last.
 */
#include "lib/guest.h"

void guest_main(const struct boot *boot)
{
	const struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) no_table = {0, 0};

	(void)boot;
	print("triplefault: now\n");
	asm volatile("lidt %0; ud2" : : "m"(no_table));
}
