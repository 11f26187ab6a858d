import sys,time
from bench.daemon import *
with holding(SOCKETS):
    with started() as (p,_):
        time.sleep(float(sys.argv[1]))
        for e in [p,*p.children()]:
            m=e.memory_full_info(); print(e.pid, 'rss',m.rss>>10,'pss',m.pss>>10,'uss',m.uss>>10)
            for l in open(f'/proc/{e.pid}/smaps_rollup'): 
                if l.split()[0] in('Pss_Anon:','Pss_File:','Pss_Shmem:','Private_Dirty:'): print('   ',l.strip())
