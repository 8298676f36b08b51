"""Kills: see ``harness``. ``make kills`` runs the long series, ``test_kills.py`` a short one."""
