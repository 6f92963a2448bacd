/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stock kernel, booted by lguest or by qemu's translator with as little beside it as the
 * two need to be comparable: see bench.h.
 */
#include "bench.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

void become_stock_lguest(const struct launcher *launcher, const void *guest)
{
	const struct stock *stock = guest;
	char memory[32], kernel[PATH_MAX], initrd[PATH_MAX], disk[PATH_MAX];

	snprintf(memory, sizeof(memory), "%luM", STOCK_MEMORY >> 20);
	snprintf(kernel, sizeof(kernel), "%s/vmlinuz", stock->folder);
	snprintf(initrd, sizeof(initrd), "--initrd=%s/initrd.img", stock->folder);
	snprintf(disk, sizeof(disk), "--block=%s,ro", stock->disk ? stock->disk : "");
	/* Options may follow the kernel, up to what is not one. */
	execl(launcher->path, "lguest", launcher->engine, memory, kernel, initrd,
	      stock->disk ? disk : "--", stock->append, (char *)NULL);
}

/* Not the microvm: without KVM its guests find no clock to measure the TSC with, and wait. */
void become_stock_tcg(const struct launcher *launcher, const void *guest)
{
	const struct stock *stock = guest;
	char memory[32], kernel[PATH_MAX], initrd[PATH_MAX], disk[PATH_MAX];

	snprintf(memory, sizeof(memory), "%luM", STOCK_MEMORY >> 20);
	snprintf(kernel, sizeof(kernel), "%s/vmlinuz", stock->folder);
	snprintf(initrd, sizeof(initrd), "%s/initrd.img", stock->folder);
	snprintf(disk, sizeof(disk), "file=%s,if=none,id=disk,format=raw,readonly=on",
		 stock->disk ? stock->disk : "");
	execlp(launcher->path, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max",
	       "-m", memory, "-nodefaults", "-no-user-config", "-display", "none", "-serial",
	       "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append",
	       stock->append, stock->disk ? "-drive" : NULL, disk, "-device",
	       "virtio-blk-pci,drive=disk", (char *)NULL);
}

void stock_launchers(const struct choices *choices, struct launcher both[STOCK_LAUNCHERS])
{
	both[0] = (struct launcher){.label = "lguest --engine=soft",
				    .path = choices->lguest,
				    .become = become_stock_lguest,
				    .engine = "--engine=soft"};
	both[1] = (struct launcher){
		.label = "qemu -accel tcg", .path = choices->qemu, .become = become_stock_tcg};
}
