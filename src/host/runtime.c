/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runtime folder: see runtime.h.
 *
 * Tour 4.560
 */
#include "host/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWN_MODE 0700

/* A folder that the user's login manager made, and not somebody else's that we were told of. */
static bool is_own_parent(const char *path)
{
	struct stat stat;

	return path[0] == '/' && lstat(path, &stat) == 0 && S_ISDIR(stat.st_mode) &&
	       stat.st_uid == geteuid() && !(stat.st_mode & (S_IWGRP | S_IWOTH));
}

/* False: too long for a path. */
static bool choose_path(struct runtime_folder *folder)
{
	const char *parent = getenv("XDG_RUNTIME_DIR");
	char login[32];
	int length;

	snprintf(login, sizeof(login), "/run/user/%u", geteuid());
	if (!parent || !is_own_parent(parent))
		parent = is_own_parent(login) ? login : NULL;
	if (parent)
		length = snprintf(folder->path, sizeof(folder->path), "%s/lguest", parent);
	else
		length = snprintf(folder->path, sizeof(folder->path), "/tmp/lguest-%u", geteuid());
	return length < (int)sizeof(folder->path);
}

/* /tmp is everybody's: what has our name there may have been put there for us to fall into. */
static int check(const struct runtime_folder *folder, struct problem *why)
{
	struct stat stat;

	if (fstat(folder->fd, &stat) < 0)
		return problem(why, errno, "the folder %s: %s", folder->path, strerror(errno));
	if (stat.st_uid != geteuid())
		return problem(why, EPERM, "the folder %s is not ours, but that of user %u",
			       folder->path, stat.st_uid);
	if (stat.st_mode & (S_IRWXG | S_IRWXO))
		return problem(why, EPERM,
			       "the folder %s lets others in (its mode is %o, it must be %o)",
			       folder->path, stat.st_mode & ALLPERMS, OWN_MODE);
	return 0;
}

int runtime_folder_open(struct runtime_folder *folder, struct problem *why)
{
	int err;

	folder->fd = -1;
	if (!choose_path(folder))
		return problem(why, ENAMETOOLONG, "the path in XDG_RUNTIME_DIR is too long");
	if (mkdir(folder->path, OWN_MODE) < 0 && errno != EEXIST)
		return problem(why, errno, "cannot make the folder %s: %s", folder->path,
			       strerror(errno));
	folder->fd = open(folder->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder->fd < 0)
		return problem(why, errno, "cannot open the folder %s: %s", folder->path,
			       strerror(errno));
	err = check(folder, why);
	if (err)
		runtime_folder_close(folder);
	return err;
}

void runtime_folder_close(struct runtime_folder *folder)
{
	if (folder->fd >= 0)
		close(folder->fd);
	folder->fd = -1;
}
