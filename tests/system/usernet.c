/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Networks that need no root: --net=user, by passt and by libslirp, and --sharenet.
 * The guest is the distribution's kernel with a shell, and asks for its addresses
 * as any would; lguest is a user's without rights.
 *
 * A row has a network of its own (OWN_NETWORK), so which addresses passt hands out
 * is known, and no port is taken by anybody else. The engine is of no matter here, and
 * where KVM is there need be neither passt nor libslirp: once, on the soft one, is enough.
 */
#include "systest.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CLOUD                                                                                      \
	"--initrd={assets}/guest/cloud/initrd.img", "128", "{assets}/guest/cloud/vmlinuz",         \
		"console=ttyS0", "quiet", "panic=-1"

#define PROMPT EXPECT("guest:/# ")

/* Address and route, by DHCP. */
#define DHCP                                                                                       \
	TYPE("printf '#!/bin/sh\\n[ \"$ip\" ] && ip a add $ip/$mask dev eth0 && "                  \
	     "ip r add default via $router\\n' >/got; chmod +x /got; "                             \
	     "ip link set eth0 up; udhcpc -i eth0 -q -s /got\r")

#define ANSWER "HTTP/1.0 200 OK\r\n\r\nthe host speaks\n"

/* From the guest to a server on the host's loopback, and from there to one in the guest. */
#define BOTH_WAYS(guest, gateway)                                                                  \
	PROMPT, DHCP, EXPECT("lease of " guest " obtained"), PROMPT,                               \
		TYPE("wget -q -O - http://" gateway ":8000/\r"), EXPECT("\nthe host speaks\n"),    \
		PROMPT, TYPE("while :; do echo the guest speaks | nc -l -p 80; done &\r"), PROMPT, \
		FETCH(2280, "the guest speaks")

#define SEGMENT "--sharenet=segment"

/* Up, with this address; and then until another one answers: the first question may be too early.
 */
#define ADDRESS(n) PROMPT, TYPE("ip link set eth0 up; ip a add 10.1.1." #n "/24 dev eth0\r"), PROMPT
#define REACH(n)                                                                                   \
	TYPE("until ping -c 1 -W 2 10.1.1." #n " >/dev/null; do :; done; echo 'from'" #n "\r"),    \
		EXPECT("\nfrom" #n "\n"), PROMPT

/* The folder where they met is there, and nothing is in it any more. */
static bool segment_is_gone(const char *directory, char *why, size_t size)
{
	char *path = suite_text("%s/lguest", directory);
	DIR *folder = opendir(path);
	struct dirent *entry;
	bool gone = true;

	if (!folder) {
		snprintf(why, size, "%s: %s", path, strerror(errno));
		return false;
	}
	while (gone && (entry = readdir(folder)))
		gone = entry->d_name[0] == '.';
	if (!gone)
		snprintf(why, size, "left behind: %s/%s", path, entry->d_name);
	closedir(folder);
	return gone;
}

static const struct test guest_of_segment = {
	.name = "another guest",
	.flags = AS_NOBODY,
	.args = {SEGMENT, CLOUD},
	.unseen = {"Kernel panic"},
};

/* KiB: no two lives of a kernel touch the same pages of its memory. */
#define OTHER_PAGES 16384

static const struct test networks[] = {
	{
		.name = "cloud-user-passt",
		.only = "soft",
		.patience = FOR_STOCK,
		.flags = AS_NOBODY | OWN_NETWORK | NEEDS_NAMESPACES,
		.args = {"--net=user,hostfwd=tcp:2280:80", CLOUD},
		.steps = STEPS(SERVE(8000, ANSWER), BOTH_WAYS("192.0.2.2", "192.0.2.1"),
			       TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic"},
	},
	{
		/* A reboot keeps all that there is; and then the process dies. */
		.name = "cloud-user-libslirp",
		.only = "soft",
		.patience = FOR_STOCK,
		.flags = AS_NOBODY | OWN_NETWORK | DENY_NAMESPACES,
		.args = {"--net=user,hostfwd=tcp:2280:80", CLOUD},
		.steps = STEPS(SERVE(8000, ANSWER), BOTH_WAYS("10.0.2.15", "10.0.2.2"), REMEMBER,
			       TYPE("reboot -f\r"), BOTH_WAYS("10.0.2.15", "10.0.2.2"),
			       COMPARE_BUT_FOR(OTHER_PAGES), KILL_CHILD("lguest-slirp"),
			       EXPECT_ERROR("net0: libslirp ended by signal 9 (Killed)\n"),
			       TYPE("cat /sys/class/net/eth0/carrier\r"), EXPECT("carrier\n0\n"),
			       TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic"},
		.error_seen = {"net0: libslirp is gone: the link is down\n"},
		.error_lines = 2,
	},
	{
		/* The first has the port; both are gone when the second has complained. */
		.name = "net/forward-in-use",
		.only = "soft",
		.patience = FOR_USAGE,
		.flags = OWN_NETWORK,
		.args = {"--net=user,hostfwd=tcp:2281:80", "--net=user,hostfwd=tcp:2281:80", CLOUD},
		.silent = true,
		.error_seen = {"TCP port 2281", "in use"},
		.error_lines = 1,
		.status = 1,
	},
	{
		.name = "net/forward-not-ours",
		.only = "soft",
		.patience = FOR_USAGE,
		.flags = AS_NOBODY | OWN_NETWORK,
		.args = {"--net=user,hostfwd=udp:80:80", CLOUD},
		.silent = true,
		.error_seen = {"UDP port 80 ", "denied"},
		.error_lines = 1,
		.status = 1,
	},
	{
		.name = "net/share-slash",
		.engines = NO_ENGINE,
		.patience = FOR_USAGE,
		.args = {"--sharenet=../segment", CLOUD},
		.silent = true,
		.error_seen = {"--sharenet", "../segment"},
		.error_lines = 1,
		.status = 1,
	},
	{
		/* Three on a segment, while a fourth comes, is heard, and goes. */
		.name = "cloud-share",
		.only = "soft",
		.patience = FOR_STOCK,
		.flags = AS_NOBODY,
		.args = {SEGMENT, CLOUD},
		.check_files = segment_is_gone,
		.others = {&guest_of_segment, &guest_of_segment, &guest_of_segment},
		.steps = STEPS(ADDRESS(1), AT(1), ADDRESS(2), AT(2), ADDRESS(3), REACH(1), AT(1),
			       REACH(3), AT(0), REACH(2), AT(3), ADDRESS(4), REACH(1), REACH(2),
			       AT(2), REACH(4), REACH(1), AT(3), TYPE("poweroff -f\r"), ENDED,
			       AT(0), REACH(2), REACH(3), TYPE("poweroff -f\r"), ENDED, AT(1),
			       REACH(3), TYPE("poweroff -f\r"), AT(2), TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic"},
	},
};

void suite_add_usernet(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(networks); i++)
		suite_add(suite, &networks[i]);
}
