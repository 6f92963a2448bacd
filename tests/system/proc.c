/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a running lguest holds, as /proc tells it: a launcher that reboots its
 * guest for years must not hold more each time.
 */
#include "systest.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool count_entries(pid_t pid, const char *folder, unsigned *count)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, folder);
	dir = opendir(path);
	if (!dir)
		return false;
	*count = 0;
	while ((entry = readdir(dir)))
		*count += entry->d_name[0] != '.';
	closedir(dir);
	return true;
}

/*
 * Not VmRSS of /proc/PID/status: that one is kept in batches, and may be off by
 * dozens of pages for each CPU. smaps_rollup counts.
 */
static bool resident_memory(pid_t pid, unsigned long *kib)
{
	char path[64], line[256];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "Rss: %lu kB", kib) == 1;
	fclose(file);
	if (!found)
		errno = ENODATA;
	return found;
}

bool resources_of(pid_t pid, struct resources *resources)
{
	return count_entries(pid, "fd", &resources->descriptors) &&
	       count_entries(pid, "task", &resources->threads) &&
	       resident_memory(pid, &resources->resident);
}

static bool is_named(pid_t pid, const char *thread, const char *name)
{
	char path[320], comm[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)pid, thread);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(comm, sizeof(comm), file))
		comm[0] = 0;
	fclose(file);
	comm[strcspn(comm, "\n")] = 0;
	return strcmp(comm, name) == 0;
}

pid_t thread_named(pid_t pid, const char *name)
{
	struct dirent *entry;
	pid_t found = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return 0;
	while (!found && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && is_named(pid, entry->d_name, name))
			found = atoi(entry->d_name);
	closedir(dir);
	return found;
}

pid_t child_named(pid_t pid, const char *name)
{
	pid_t found = 0;
	char path[64];
	FILE *children;
	int child;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	children = fopen(path, "re");
	if (!children)
		return 0;
	while (!found && fscanf(children, "%d", &child) == 1) {
		char thread[16];

		snprintf(thread, sizeof(thread), "%d", child);
		if (is_named(child, thread, name))
			found = child;
	}
	fclose(children);
	return found;
}
